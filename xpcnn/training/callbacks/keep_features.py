"""Features kept on disk."""

from __future__ import annotations

from pathlib import Path

from xpcnn import files
from xpcnn.training.callbacks.base import Callback
from xpcnn.training.fit import Fit


class KeepFeatures(Callback):
    """Keep the features that frozen first layers compute on disk, so that the next fit can read them.

    A fit computes them once, unless images are augmented in too many ways; see the guide on pretrained weights. With
    this callback, a later fit with the same frozen weights, images and views reads them, and gets the same bits. The
    files, as large as the features, may be deleted at any time.

    folder: by default ``features`` in the user's cache folder, ``~/.cache/xpcnn`` on Linux. One that others can write
    to is not used, which is said in one line.

    >>> keep = KeepFeatures("features")
    """

    writes = True

    def __init__(self, folder: files.PathLike | None = None) -> None:
        self.folder = files.user_cache() / "features" if folder is None else Path(folder)

    def on_fit_begin(self, fit: Fit) -> None:
        """Set the folder."""
        fit.features_folder = self.folder
