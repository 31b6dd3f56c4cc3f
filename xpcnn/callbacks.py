"""What may be done between the steps of a fit: stop early, save the best, log, change the learning rate."""

from xpcnn.training.callbacks import *  # noqa: F403 (one list of the names is enough, and it is there)
