"""The sample types in a JPEG 2000's header, some of which OpenCV can't read or misreads."""

from __future__ import annotations

import struct

from xpcnn.data.pixels import Refusal
from xpcnn.data.readers.boxes import boxes, find
from xpcnn.data.readers.containers import Content, damaged

_CODESTREAM = b"\xff\x4f\xff\x51"
_SYCC = 18


def require_readable(content: Content) -> int:
    """Return the number of components; raise Refusal for those that OpenCV does not read correctly."""
    start = 0
    if content[:4].tobytes() != _CODESTREAM:
        stream = find(content, b"jp2c")
        if stream is None:
            raise damaged("jp2")
        start = stream.start
        _require_rgb_or_grey(content)
    try:
        (components,) = struct.unpack_from(">H", content.data, start + 40)
        forms = {struct.unpack_from(">BBB", content.data, start + 42 + 3 * index) for index in range(components)}
    except struct.error:
        raise damaged("jp2") from None
    if content[start : start + 4].tobytes() != _CODESTREAM or not forms:
        raise damaged("jp2")
    if len(forms) > 1:
        raise Refusal("it is a JPEG 2000 whose components differ in size or depth, which xpcnn does not read")
    depth = forms.pop()[0]
    bits = (depth & 0x7F) + 1
    if depth & 0x80 or not 8 <= bits <= 16:
        sign = "signed" if depth & 0x80 else "unsigned"
        raise Refusal(f"it is a JPEG 2000 of depth {bits}, {sign}, but xpcnn reads 8 to 16, unsigned")
    return int(components)


def _require_rgb_or_grey(content: Content) -> None:
    header = find(content, b"jp2h")
    for box in boxes(content, header.start, header.end) if header else ():
        if box.name == b"colr" and box.end - box.start >= 7 and content[box.start] == 1:
            (space,) = struct.unpack_from(">I", content.data, box.start + 3)
            if space == _SYCC:  # OpenCV mistakes it for another YUV
                raise Refusal("it is a JPEG 2000 whose colours are YCbCr (sYCC), which xpcnn does not read")
