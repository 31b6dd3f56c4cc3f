"""The handwritten digits that come with xpcnn."""

from __future__ import annotations

from importlib.resources import files

import numpy as np

from xpcnn.data.labelled import LabelledImages


def load_digits() -> LabelledImages:
    """Return 1,797 handwritten digits, grey, uint8 (1797, 1, 8, 8), with the classes "0" to "9".

    Each value counts the inked pixels, 0 to 16, in a 4 x 4 block of the scanned digit, scaled so that 16 becomes 255.

    The test part of E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
    Learning Repository, 1998, doi:10.24432/C50P49, licensed CC BY 4.0.

    >>> load_digits().x.shape
    (1797, 1, 8, 8)
    """
    with (
        files("xpcnn.data").joinpath("digits.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as arrays,
    ):
        inked, labels = arrays["images"], arrays["labels"]
    x = np.round(inked[:, np.newaxis] * (255 / 16)).astype(np.uint8)
    return LabelledImages(x, labels.astype(np.int64), tuple("0123456789"))
