"""Running a fit over a network: pieces of batches on threads, the loop over epochs, history and callbacks."""
