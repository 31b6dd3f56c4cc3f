"""TIFF's variant of Lempel-Ziv-Welch compression, decoded run by run, and checked.

Between two Clear codes the width of a code depends only on its index, so all codes of such a run are extracted at once.
Code i adds the entry 257 + i: the string of code i - 1 and one more byte, which is the stretch of output that starts
where that of code i - 1 starts. Lengths, positions and bytes follow by pointer jumping along these references.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Codes: TypeAlias = NDArray[np.int64]

_CLEAR, _END, _FIRST = 256, 257, 258
#: Codes of 9, 10, 11 and 12 bits after a Clear; encoders that fill the table completely write two more.
_RUN = (254, 512, 1024, 2051)
_WIDTHS = np.repeat(np.arange(9, 13), _RUN)
_OFFSETS = np.cumsum(_WIDTHS) - _WIDTHS
#: From this many bytes per code on, a loop that copies strings is faster than pointer jumping for every byte.
_LONG = 8


class DamagedData(ValueError):  # noqa: N818 (it is the data that is damaged)
    """Compressed data that no encoder writes; the message says what is wrong."""


def decode(data: bytes | NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return the ``size`` bytes in TIFF's LZW data.

    Raises :class:`DamagedData` for data with fewer or more bytes, references to missing strings, or an end in the wrong
    place. At most one run, 8 MB, is decoded beyond ``size``.
    """
    packed = np.frombuffer(data, dtype=np.uint8)
    if packed.size >= 2 and packed[0] == 0 and packed[1] & 1:
        raise DamagedData("its LZW compression is the variant from before 1992, with bits in the reverse order")
    bits, position = packed.size * 8, 0
    padded = np.concatenate([packed, np.zeros(4, np.uint8)])
    output, filled, ended = np.empty(size, np.uint8), 0, False
    if _cut(padded, 0, bits)[:1].tolist() != [_CLEAR]:
        raise DamagedData("its LZW data do not start with a Clear code")
    while not ended:
        codes = _cut(padded, position, bits)
        stops = np.flatnonzero((codes == _CLEAR) | (codes == _END))
        count = int(stops[0]) if stops.size else len(codes)
        run = _decode_run(codes[:count], size - filled)
        output[filled : filled + len(run)] = run
        filled += len(run)
        if stops.size:
            ended = codes[count] == _END
            position += int(_OFFSETS[count] + _WIDTHS[count])
        elif count == len(_WIDTHS):
            raise DamagedData("its LZW data continue without a Clear code after the table is full")
        else:
            ended = True
    if filled != size:
        raise DamagedData(f"its LZW data end after {filled} of {size} bytes")
    return output


def _cut(padded: NDArray[np.uint8], position: int, bits: int) -> Codes:
    """Return the codes from a bit on, up to the longest run or the end of the data."""
    starts = position + _OFFSETS
    starts = starts[: np.searchsorted(starts + _WIDTHS, bits, side="right")]
    widths, places = _WIDTHS[: len(starts)], starts >> 3
    window = padded[places].astype(np.int64) << 16 | padded[places + 1].astype(np.int64) << 8 | padded[places + 2]
    codes: Codes = window >> (24 - (starts & 7) - widths) & ((1 << widths) - 1)
    return codes


def _decode_run(codes: Codes, most: int) -> NDArray[np.uint8]:
    index = np.arange(len(codes))
    references = np.where(codes < _CLEAR, index, codes - _FIRST)
    if np.any((references >= index) & (codes >= _CLEAR)):
        raise DamagedData("its LZW data refer to strings that do not exist yet")
    lengths = _lengths(references, codes >= _CLEAR)
    total = int(lengths.sum())
    if total > most:
        raise DamagedData("its LZW data contain more bytes than they should")
    if total > _LONG * len(codes):
        return _copied(codes.tolist(), total)
    places = np.cumsum(lengths) - lengths
    # Every byte is copied from the same position in the string it refers to; a literal from itself.
    sources = np.arange(total) - np.repeat(places - places[references], lengths)
    # A jump makes the string one byte shorter, but its end has one more, the first byte of the next code's.
    for _ in range(int(lengths.max(initial=0)).bit_length() + 1):
        sources = sources[sources]
    literals = np.zeros(total, np.uint8)
    literals[places] = codes.astype(np.uint8)
    decoded: NDArray[np.uint8] = literals[sources]
    return decoded


def _lengths(references: Codes, longer: NDArray[np.bool_]) -> Codes:
    """Return 1 plus the number of references between each code and a literal."""
    lengths = longer.astype(np.int64)
    while (further := lengths[references]).any():
        lengths += further
        references = references[references]
    return lengths + 1


def _copied(codes: list[int], total: int) -> NDArray[np.uint8]:
    strings: list[Any] = [bytes([value]) for value in range(_CLEAR)] + [b"", b""]
    parts = [previous := strings[codes[0]]]
    for code in codes[1:]:
        string = strings[code] if code < len(strings) else previous + previous[:1]
        strings.append(previous + string[:1])
        parts.append(string)
        previous = string
    return np.frombuffer(b"".join(parts), np.uint8, count=total)
