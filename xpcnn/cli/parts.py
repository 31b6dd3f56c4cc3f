"""Splitting a run's images into parts, with each group in one part, and all copies of an image too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xpcnn.data import LabelledImages, Split


def split_data(
    images: LabelledImages,
    test: float,
    validation: float,
    seed: int,
    *,
    strict: bool = False,
    copies: str = "one-part",
    fold: tuple[int, int] | None = None,
) -> tuple[Split, list[str]]:
    """Return the parts, the dataset's own or drawn class by class, and notes about them, a line each.

    Copies of an image, and groups that share one, are drawn into one part. If the dataset has its own parts, copies are
    left out of the parts with less precedence. copies: "anywhere" leaves them where they are. fold: (k, K) makes
    the k-th of K folds, from 1 on, the test part, whatever ``test`` is.

    Raises ValueError, if ``strict``, for an image in two parts or two classes, and for a group in two parts; and for a
    fold of a dataset that has its own parts.
    """
    import numpy as np

    from xpcnn import data
    from xpcnn.data.copies import first_pair, in_several, same_pictures, to_leave_out, united
    from xpcnn.data.folds import fold_split, stratified_folds
    from xpcnn.data.labels import strata, text

    if fold and images.parts is not None:
        raise ValueError(
            "--folds draws the parts itself, but the images have parts of their own. Omit --folds, or give the images "
            "without parts."
        )
    notes: list[str] = []
    groups: NDArray[Any] | None = None if images.groups is None else np.array(images.groups)
    used = np.arange(len(images.y))

    def note(what: str, torn: NDArray[np.bool_], keys: NDArray[Any], values: NDArray[Any]) -> bool:
        """Note how many ``keys`` have several values, if any, with the first two images of one of them."""
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
        names = np.array([text(label, images.classes) for label in images.y])
        kinds = np.unique(names, return_inverse=True)[1]
        note("images in more than one class", in_several(pictures, kinds), pictures, names)
        if images.parts is not None:
            torn = to_leave_out(pictures, images.parts)
            if note(f"images in more than one part, {torn.sum()} copies left out", torn, pictures, images.parts):
                used = np.flatnonzero(~torn)
                _refuse_emptied(images, used)
        groups = united(pictures, pictures if groups is None else groups)
    if strict and notes:
        raise ValueError(f"--strict refuses {'; '.join(notes)}. Keep each in one place, or omit --strict.")
    joined = None if groups is None else groups[used]
    drawn_by, classes = strata(images.y, max(4, fold[1]) if fold else 2), (*images.classes, "no label")
    if fold:
        _refuse_scarce(images, fold[1])
        fold_of = stratified_folds(drawn_by, fold[1], seed, classes, joined)
        split = fold_split(fold_of, fold[0] - 1, drawn_by, validation, seed, classes, joined)
    elif images.parts is None:
        split = data.stratified_split(drawn_by, test, validation, seed, classes, joined)
    else:
        split = data.split_from_parts(images.parts[used], drawn_by[used], validation, seed, classes, joined)
        split = data.Split(used[split.train], used[split.validation], used[split.test])
    _refuse_untrained(images, split)
    return split, notes + (_untested(images, split) if images.parts is None and (test or fold) else [])


def _name(images: LabelledImages, row: int) -> str:
    return repr(str(images.paths[row] if images.paths else row))


def _refuse_emptied(images: LabelledImages, used: NDArray[Any]) -> None:
    """Raise ValueError if a class has lost all its training images."""
    import numpy as np

    assert images.parts is not None
    trains = images.parts == "train"
    gone = _lacking(images, np.flatnonzero(trains), used[trains[used]])
    if gone:
        raise ValueError(
            f"All training images of the class {gone[0]!r} are copies of validation or test images. "
            "Add other images to it."
        )


def _refuse_scarce(images: LabelledImages, folds: int) -> None:
    """Raise ValueError if a label has fewer images than there are folds, before the first one is trained."""
    from xpcnn.data.labels import are_several, counts

    for name, count in zip(images.classes, counts(images.y, len(images.classes)).tolist(), strict=True):
        if are_several(images.y) and count < folds:
            raise ValueError(
                f"The label {name!r} has too few images for {folds} folds. Received: {count}, expected {folds} or "
                "more. Use fewer folds, add images, or remove the label."
            )


def _refuse_untrained(images: LabelledImages, split: Split) -> None:
    """Raise ValueError if a label has no training images, which strata of several labels cannot prevent."""
    import numpy as np

    gone = _lacking(images, np.arange(len(images.y)), split.train)
    if gone:
        raise ValueError(
            f"The training part has no image with the label {gone[0]!r}. Add images of it, remove it, or draw other "
            "parts with --seed."
        )


def _untested(images: LabelledImages, split: Split) -> list[str]:
    """Return a line if a class has no test images, for instance because all its images are in one group."""
    import numpy as np

    names = ", ".join(map(repr, _lacking(images, np.arange(len(images.y)), split.test)))
    return [f"the test part has no images of these classes, for lack of groups: {names}"] if names else []


def _lacking(images: LabelledImages, rows: NDArray[Any], some: NDArray[Any]) -> list[str]:
    """Return the classes of which there are images among ``rows``, and none among some of them."""
    from xpcnn.data.labels import counts

    of_rows, of_some = (counts(images.y[part], len(images.classes)) for part in (rows, some))
    return [name for name, n, left in zip(images.classes, of_rows, of_some, strict=True) if n and not left]
