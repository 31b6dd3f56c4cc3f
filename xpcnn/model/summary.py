"""The layers of a network as text: a table, and a line for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from xpcnn.backend import ArrayModule
from xpcnn.layers import Layer
from xpcnn.parameters import Declaration
from xpcnn.precision import precision_of
from xpcnn.program.network import Network

HEADINGS = ("layer", "input", "output", "activation", "bias", "precision", "stored in", "parameters", "bytes")


def summary_table(network: Network, precision: bool = False) -> str:
    """Return one line per layer: name, shapes without the batch, activation, bias, parameters and bytes; totals.

    precision: also return what each layer computes in, and what its output is stored in between layers (nothing where
    the next one's kernel computes both), as the columns before the parameters.
    """
    item, storage = network.dtype.itemsize, network.storage() if precision else {}
    lines = [tuple(heading for heading in HEADINGS if precision or heading not in ("precision", "stored in"))]
    for layer, depth in _with_depth(network.layers):
        count = _count(layer.declarations)
        own_activation = getattr(layer, "activation", None)
        lines.append(
            (
                "  " * depth + str(layer.name),
                _shape(layer.input_shape),
                _shape(layer.output_shape),
                own_activation.kind() if isinstance(own_activation, Layer) else own_activation or "",
                ("yes" if layer.use_bias else "no") if hasattr(layer, "use_bias") else "",
                *(_precisions(layer, network.xp, storage) if precision else []),
                f"{count:,}" if count else "",
                f"{count * item:,}" if count else "",
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    numbers = len(lines[0]) - 2
    rows = [
        "  ".join(
            cell.rjust(width) if column >= numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    rule = "-" * max(map(len, rows))
    frozen = network.frozen()
    trained = _count(d for d in network.layout.declarations if d.layer not in frozen)
    total, buffers = _count(network.layout.declarations), _count(network.buffer_layout.declarations)
    totals = f"{total:,} parameters, {total * item:,} bytes"
    if trained != total:
        totals += f", {trained:,} of them trainable"
    if buffers:
        totals += f"; {buffers:,} running statistics"
    return "\n".join([rows[0], rule, *rows[1:], rule, totals])


def _precisions(layer: Layer, xp: ArrayModule, storage: Mapping[str, str]) -> tuple[str, str]:
    """Return what a layer computes in, and what its output is stored in."""
    return precision_of(xp) if layer.on_tensor_cores else "float32", storage[layer.name]


def layer_list(layers: Iterable[Layer], depth: int = 0) -> str:
    """Return one line per layer, indented by its depth: its name or, before a network is built, its kind, and itself.

    The layers of a block have lines of their own, and are not repeated in its arguments.
    """
    return "\n".join(
        f"{'  ' * level}({layer.name or layer.kind()}): {layer.described()}"
        for layer, level in _with_depth(layers, depth)
    )


def _with_depth(layers: Iterable[Layer], depth: int = 0) -> Iterable[tuple[Layer, int]]:
    for layer in layers:
        yield layer, depth
        yield from _with_depth((inner for inner in layer.sublayers() if not inner.hidden), depth + 1)


def _count(declarations: Iterable[Declaration]) -> int:
    return sum(declaration.size for declaration in declarations)


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
