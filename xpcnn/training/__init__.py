"""Training a network: the loop over epochs, engines, checkpoints, history and callbacks."""
