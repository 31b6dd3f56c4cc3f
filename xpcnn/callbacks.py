"""Callbacks, which run between the steps of a fit: stop early, save the best model, log, change the learning rate."""

from typing import TYPE_CHECKING

from xpcnn.hints import no_attribute
from xpcnn.training.callbacks import *  # noqa: F403 (one list of the names is enough)
from xpcnn.training.callbacks import __all__ as __all__

if not TYPE_CHECKING:  # type checkers know which names are missing

    def __getattr__(name):
        raise no_attribute(__name__, "callback", name, __all__)
