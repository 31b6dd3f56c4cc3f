"""Image files built from their parts, for the kinds that no library writes."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from xpcnn.data.readers.containers import kind_of
from xpcnn.data.readers.opencv_reader import read_with_opencv

#: Four colours of which no two share a sample, and none is a permutation of another.
COLOURS = np.array([[[250, 10, 20], [30, 200, 40], [50, 60, 220], [7, 8, 9]]], dtype=np.uint8)


def read(content, page=0, channels_as_they_are=False):
    """What the reader makes of a file's bytes."""
    content = np.frombuffer(content, np.uint8)
    return read_with_opencv(content, kind_of(content), page, channels_as_they_are)


def saved(image, kind, **options):
    """An array as Pillow writes it."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


def animated(frames, kind, **options):
    """Arrays as the frames that Pillow writes."""
    first, *others = map(Image.fromarray, frames)
    file = io.BytesIO()
    first.save(file, kind, save_all=True, append_images=others, duration=100, **options)
    return file.getvalue()


def chunk(name, content):
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def inserted(png, before, *parts):
    """A PNG with further chunks before the first of a name."""
    at = png.index(before) - 4
    return png[:at] + b"".join(parts) + png[at:]


def apng(frames, default=None, places=None):
    """An animated PNG of colour frames, whose default image is the first, or another that is no frame.

    places: for each frame left, top, disposal and blend.
    """
    height, width, _ = (frames[0] if default is None else default).shape
    first = b"" if default is None else _image(b"IDAT", default)
    parts, sequence = [chunk(b"acTL", struct.pack(">II", len(frames), 0)), first], 0
    for frame, (left, top, *how) in zip(frames, places or [(0, 0, 0, 0)] * len(frames), strict=True):
        place = (frame.shape[1], frame.shape[0], left, top)
        parts.append(chunk(b"fcTL", struct.pack(">5I2H2B", sequence, *place, 1, 10, *how)))
        is_default = default is None and frame is frames[0]
        parts.append(_image(b"IDAT", frame) if is_default else _image(b"fdAT", frame, struct.pack(">I", sequence + 1)))
        sequence += 1 if is_default else 2
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(parts) + chunk(b"IEND", b"")


def _image(name, frame, before=b""):
    return chunk(name, before + zlib.compress(b"".join(b"\0" + row.tobytes() for row in frame)))


def exif(orientation, order="<", form="H"):
    """An EXIF block, without prefix, that notes an orientation."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(f"{order}HHI{form}", 0x112, {"H": 3, "I": 4}[form], 1, orientation).ljust(12, b"\0")
    return mark + struct.pack(f"{order}IH", 8, 1) + entry + bytes(4)


def webp_with_exif(image, block):
    """A lossless WebP with an EXIF chunk, as it is given."""
    content = saved(image, "WEBP", lossless=True, exif=exif(1))
    body = (
        content[12 : content.index(b"EXIF")] + b"EXIF" + struct.pack("<I", len(block)) + block + bytes(len(block) % 2)
    )
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def bmp(width, height, bits, rows, *, compression=0, header=40, masks=(), palette=b"", used=0):
    """A BMP with any header, masks and palette."""
    if header == 12:
        head = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        head = struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, compression, len(rows), 0, 0, used, 0)
        head = (head + struct.pack(f"<{len(masks)}I", *masks)).ljust(header, b"\0")
    offset = 14 + len(head) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset) + head + palette + rows


def gif(width, height, frames):
    """A GIF of the palette red, green, blue, grey: frames of (x, y, width, height, colour, disposal)."""
    parts = [
        b"GIF89a" + struct.pack("<HHBBB", width, height, 0x81, 0, 0) + bytes([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    ]
    for x, y, w, h, colour, disposal in frames:
        codes = [*[4, colour] * (w * h), 5]  # clear, one pixel, …, end: codes of 3 bits, from the lowest on
        packed = sum(code << 3 * place for place, code in enumerate(codes)).to_bytes(
            (3 * len(codes) + 7) // 8, "little"
        )
        parts.append(b"\x21\xf9\x04" + bytes([disposal << 2, 0, 0, 0, 0]))
        parts.append(b"," + struct.pack("<HHHHB", x, y, w, h, 0) + b"\x02" + bytes([len(packed)]) + packed + b"\0")
    return b"".join([*parts, b";"])
