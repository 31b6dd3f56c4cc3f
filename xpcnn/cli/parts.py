"""Which images train, choose and measure: a group in one part, and a picture too, however often it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xpcnn.data import LabelledImages, Split


def split_data(
    images: LabelledImages, test: float, validation: float, seed: int, *, strict: bool = False, copies: str = "one-part"
) -> tuple[Split, list[str]]:
    """Return the parts, the set's own or drawn class by class, and what is to be said of them, a line each.

    Copies of a picture, and groups that share one, are drawn into one part. Of a set with parts of its own a copy is
    left out of the parts that count for less. copies: "anywhere" lets them lie where they are.

    Raises ValueError, if ``strict``, for the same picture in two parts or of two classes, and a group in two parts.
    """
    import numpy as np

    from xpcnn import data
    from xpcnn.data.copies import first_pair, in_several, same_pictures, to_leave_out, united

    notes: list[str] = []
    groups: NDArray[Any] | None = None if images.groups is None else np.array(images.groups)
    used = np.arange(len(images.y))

    def note(what: str, torn: NDArray[np.bool_], keys: NDArray[Any], values: NDArray[Any]) -> bool:
        """Say how many ``keys`` are torn between values, if any, and the first two images of one."""
        if torn.any():
            one, other = first_pair(keys, values)
            pair = f"{_name(images, one)} ({values[one]}) and {_name(images, other)} ({values[other]})"
            notes.append(f"{len(np.unique(keys[torn]))} {what}, the first: {pair}")
        return bool(torn.any())

    if groups is not None and images.parts is not None:
        numbers = np.unique(groups, return_inverse=True)[1]
        note("groups in more than one part", in_several(numbers, images.parts), numbers, images.parts)
    if images.digests is not None and images.paths is not None and copies == "one-part":
        pictures = same_pictures(images.digests)
        names = np.array(images.classes)[images.y]
        note("pictures in more than one class", in_several(pictures, images.y), pictures, names)
        if images.parts is not None:
            torn = to_leave_out(pictures, images.parts)
            if note(f"pictures in more than one part, {torn.sum()} images left out", torn, pictures, images.parts):
                used = np.flatnonzero(~torn)
                _refuse_emptied(images, used)
        groups = united(pictures, pictures if groups is None else groups)
    if strict and notes:
        raise ValueError(f"--strict refuses {'; '.join(notes)}. Keep each in one place, or leave --strict out.")
    joined = None if groups is None else groups[used]
    if images.parts is None:
        split = data.stratified_split(images.y, test, validation, seed, images.classes, joined)
        return split, notes + (_untested(images, split) if test else [])
    split = data.split_from_parts(images.parts[used], images.y[used], validation, seed, images.classes, joined)
    return data.Split(used[split.train], used[split.validation], used[split.test]), notes


def _name(images: LabelledImages, row: int) -> str:
    return repr(str(images.paths[row] if images.paths else row))


def _refuse_emptied(images: LabelledImages, used: NDArray[Any]) -> None:
    """Raise ValueError where no image is left to train on of a class that had some."""
    import numpy as np

    assert images.parts is not None
    trains = images.parts == "train"
    left = np.unique(images.y[used][trains[used]])
    gone = np.setdiff1d(images.y[trains], left)
    if len(gone):
        raise ValueError(
            f"All images of the class {images.classes[gone[0]]!r} to train on are copies of images that validate or "
            "test. Put other images there."
        )


def _untested(images: LabelledImages, split: Split) -> list[str]:
    """Return a line where a class has no image in the test part, as where all are of one group."""
    import numpy as np

    untested = np.setdiff1d(images.y, images.y[split.test]).tolist()
    names = ", ".join(repr(images.classes[label]) for label in untested)
    return [f"no image of these classes is in the test part, for want of groups: {names}"] if names else []
