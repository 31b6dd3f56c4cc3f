"""What the readers of pages have at hand."""

import pytest

import xpcnn


@pytest.fixture(scope="session")
def examples(tmp_path_factory):
    """A folder of what pages take for given: pictures in class folders, and pictures to name."""
    import cv2

    place = tmp_path_factory.mktemp("pages")
    digits = xpcnn.data.load_digits()
    names = ("basophil", "monocyte", "neutrophil")
    for name, folder, count in (("cells", "cells", 16), ("labelled_cells", "labelled_cells", 4), ("new", "new", 4)):
        for label, kind in enumerate(names):
            into = place / folder if name == "new" else place / folder / kind
            into.mkdir(parents=True, exist_ok=True)
            for row in (digits.y == label).nonzero()[0][:count]:
                cv2.imwrite(str(into / f"{row}.jpg"), digits.x[row, 0])
    return place
