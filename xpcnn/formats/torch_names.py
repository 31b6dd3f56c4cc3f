"""Matching the modules of a PyTorch file to the layers of a model: by shape, and by order if shapes are equal."""

from __future__ import annotations

import itertools
import re
import reprlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from xpcnn.parameters import Shape

#: {"conv2d_1": {"weight": (8, 1, 3, 3), "bias": (8,)}, …}, or the same with modules such as "features.0", in order.
Modules: TypeAlias = Mapping[str, Mapping[str, Shape]]

#: The most parts, separated by dots, that a module's name is split into; the rest is kept together.
_MOST_PARTS = 50
#: The most partial orders that are followed at once, and the most lines in an error's table.
_MOST_WAYS, _MOST_LINES = 500, 100


def match(
    ours: Modules,
    theirs: Modules,
    residuals: Sequence[Sequence[str]] = (),
    names: Mapping[str, str] | None = None,
    in_order: bool = False,
) -> dict[str, str]:
    """Return {"conv2d_1": "features.0", …}: for each layer, the module with the same arrays of the same shapes.

    If several modules have the same arrays, these rules decide, in this order: pairs given in ``names``; the layers'
    names, if each is that of a module with the same arrays; the order of the file, if it is meaningful (``in_order``)
    and fits; finally, the modules' names. Modules beneath one parent whose names differ only in numbers are ordered by
    number, all modules beneath one parent stay together, and they do not cross the boundary of a residual stack
    (``residuals``: the layers of each). The result is the only order that follows these rules and fits. Raises
    ValueError, with a table of all arrays, if there is none or more than one.

    >>> match({"dense_1": {"weight": (3, 3)}, "dense_2": {"weight": (3, 3)}},
    ...       {"10": {"weight": (3, 3)}, "2": {"weight": (3, 3)}})
    {'dense_1': '2', 'dense_2': '10'}
    """
    pinned = dict(names or {})
    unknown = [*(pinned.keys() - ours.keys()), *(set(pinned.values()) - theirs.keys())]
    if unknown or len(set(pinned.values())) < len(pinned):
        raise ValueError(
            f"names must pair layers ({', '.join(itertools.islice(ours, 5))}, …) with modules of the file "
            f"({', '.join(map(_printable, itertools.islice(theirs, 5)))}, …), each at most once. Received: {names}."
        )
    open_ours = {layer: arrays for layer, arrays in ours.items() if layer not in pinned}
    open_theirs = {module: arrays for module, arrays in theirs.items() if module not in set(pinned.values())}
    unfit = any(ours[layer] != theirs[module] for layer, module in pinned.items())
    if unfit or _counted(open_ours) != _counted(open_theirs):
        raise ValueError(f"the arrays do not fit the network.\n{_table(ours, theirs, pinned)}")
    order: list[str] | None
    if all(open_theirs.get(layer) == arrays for layer, arrays in open_ours.items()):
        order = [*open_ours]
    elif in_order and [*open_ours.values()] == [*open_theirs.values()]:
        order = [*open_theirs]
    else:
        order = _order(open_ours, open_theirs, residuals)
    if order is None:
        raise ValueError(
            "shapes and names do not determine which module is which layer. Pass some pairs as names={layer: module}, "
            f"such as names={_example(open_ours, open_theirs)}.\n{_table(ours, theirs, pinned)}"
        )
    found = pinned | dict(zip(open_ours, order, strict=True))
    return {layer: found[layer] for layer in ours}


def _order(ours: Modules, theirs: Modules, residuals: Sequence[Sequence[str]]) -> list[str] | None:
    """Return the modules in the order of our layers; None unless exactly one order fits."""
    if max(_counted(ours).values(), default=1) == 1:
        by_shapes = {_signature(arrays): module for module, arrays in theirs.items()}
        return [by_shapes[_signature(arrays)] for arrays in ours.values()]
    root = _Node()
    for module in theirs:
        root.insert(module)
    places = {layer: place for place, layer in enumerate(ours)}
    inside = ([places[layer] for layer in stack if layer in places] for stack in residuals)
    search = _Search([*ours.values()], theirs, [(min(stack), max(stack)) for stack in inside if stack])
    ways = search.ways(root, 0)
    return [*ways.first] if ways.number == 1 else None


@dataclass
class _Node:
    """A part of the modules' names, the parts beneath it, and the number of modules beneath it."""

    children: dict[str, _Node] = field(default_factory=dict)
    module: str | None = None
    size: int = 0

    def insert(self, module: str) -> None:
        node = self
        node.size += 1
        for part in (*(f".{part}" for part in module.split(".", _MOST_PARTS)), ""):  # the last one ends every name
            node = node.children.setdefault(part, _Node())
            node.size += 1
        node.module = module

    def rows(self) -> list[list[_Node]]:
        """Return the children in groups whose names differ only in numbers, each sorted by these numbers."""
        rows: dict[str, list[tuple[list[int], _Node]]] = {}
        for part, node in self.children.items():
            numbers = [int(digits) for digits in re.findall("[0-9]{1,18}", part)]
            rows.setdefault(re.sub("[0-9]{1,18}", "#", part), []).append((numbers, node))
        return [[node for _, node in sorted(row, key=lambda entry: entry[0])] for row in rows.values()]


class _Ways(NamedTuple):
    """The number of ways to order modules, where 2 stands for any larger number, and the first of them."""

    number: int
    first: tuple[str, ...] = ()


class _Search:
    """Counts the orders in which the modules beneath a part of a name fit our layers, from a given layer on."""

    def __init__(self, ours: Sequence[Mapping[str, Shape]], theirs: Modules, residuals: list[tuple[int, int]]) -> None:
        self.ours, self.theirs, self.residuals = ours, theirs, residuals
        self._known: dict[tuple[int, int], _Ways] = {}

    def ways(self, node: _Node, start: int) -> _Ways:
        """Return the ways to match a node's modules to our layers ``start``, ``start + 1``, …"""
        if node.module is not None:
            fits = self.theirs[node.module] == self.ours[start]
            return _Ways(1, (node.module,)) if fits else _Ways(0)
        if self._crosses(start, start + node.size - 1):
            return _Ways(0)
        key = (id(node), start)
        if key not in self._known:
            self._known[key] = self._merged(node.rows(), start)
        return self._known[key]

    def _merged(self, rows: list[list[_Node]], start: int) -> _Ways:
        """Count the ways to merge rows, keeping each in order: the states are how many children of each are taken."""
        reached = {(0,) * len(rows): _Ways(1)}
        for _ in range(sum(map(len, rows))):
            following: dict[tuple[int, ...], _Ways] = {}
            for taken, before in reached.items():
                for number, row in enumerate(rows):
                    if taken[number] < len(row):
                        here = self.ways(row[taken[number]], start + len(before.first))
                        if here.number:
                            after = (*taken[:number], taken[number] + 1, *taken[number + 1 :])
                            known = following.get(after, _Ways(0)).number
                            count = min(2, known + before.number * here.number)
                            following[after] = _Ways(count, before.first + here.first)
            reached = following
            if len(reached) > _MOST_WAYS:
                return _Ways(2)
        return next(iter(reached.values()), _Ways(0))

    def _crosses(self, first: int, last: int) -> bool:
        """Whether a range of our layers contains only part of a residual stack and also layers outside it."""
        return any(first < a <= last < b or a < first <= b < last for a, b in self.residuals)


def _signature(arrays: Mapping[str, Shape]) -> tuple[tuple[str, Shape], ...]:
    return tuple(sorted(arrays.items()))


def _counted(modules: Modules) -> Counter[tuple[tuple[str, Shape], ...]]:
    return Counter(map(_signature, modules.values()))


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Return a sort key that compares numbers by their value."""
    parts = re.findall("[0-9]{1,18}|[^0-9]+", name)
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def _example(ours: Modules, theirs: Modules) -> dict[str, str]:
    """Return {layer: module} for one ambiguous layer and the first of the modules that fit it."""
    counts = _counted(ours)
    layer = next(layer for layer, arrays in ours.items() if counts[_signature(arrays)] > 1)
    return {layer: min((module for module in theirs if theirs[module] == ours[layer]), key=_natural)}


def _table(ours: Modules, theirs: Modules, pinned: Mapping[str, str]) -> str:
    """Return one line per array: theirs | ours | whether it fits; modules that fit are paired first, then the rest."""
    waiting = sorted((module for module in theirs if module not in set(pinned.values())), key=_natural)
    pairs: dict[str, str | None] = dict(pinned)
    for layer in ours:
        if layer not in pinned:
            same = next((module for module in waiting if theirs[module] == ours[layer]), None)
            pairs[layer] = same
            if same is not None:
                waiting.remove(same)
    for layer in ours:
        if pairs[layer] is None and waiting:
            pairs[layer] = waiting.pop(0)
    counts = _counted(ours)
    rows = []
    for layer in ours:
        several = layer not in pinned and counts[_signature(ours[layer])] > 1
        rows += [*_rows(layer, ours[layer], pairs[layer], theirs, "fits, as others do" if several else "fits")]
    for module in waiting:
        rows += [*_rows(None, {}, module, theirs, "")]
    left = [f"and {len(rows) - _MOST_LINES} more"] if len(rows) > _MOST_LINES else []
    rows = [("theirs", "ours", ""), *rows[:_MOST_LINES]]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = (f"{row[0]:{widths[0]}} | {row[1]:{widths[1]}} | {row[2]}".rstrip(" |") for row in rows)
    return "\n".join([*lines, *left])


def _rows(
    layer: str | None, ours: Mapping[str, Shape], module: str | None, theirs: Modules, fits: str
) -> Iterator[tuple[str, str, str]]:
    """Yield the lines of a layer and the module paired with it, either of which may be missing."""
    arrays = {} if module is None else theirs[module]
    for name in {**ours, **arrays}:
        left = f"{_printable(full_name(module or '', name))} {reprlib.repr(arrays[name])}" if name in arrays else "-"
        right = f"{layer}.{name} {ours[name]}" if name in ours else "-"
        yield left, right, fits if ours.get(name) == arrays.get(name) else "does not fit"


def full_name(module: str, name: str) -> str:
    """Return the full name of a module's array; arrays of the outermost module have no prefix."""
    return f"{module}.{name}" if module else name


def _printable(name: str) -> str:
    """Return a name on one line, cut to 100 characters."""
    return (name if name.isprintable() else ascii(name))[:100]
