"""Running a fit over a network: shards of batches on threads, the loop over epochs, history and callbacks."""
