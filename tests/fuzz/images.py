"""Cases: image files of every kind, intact and damaged, and some that claim to be huge."""

import io
import struct
import tempfile
import zlib
from functools import partial
from pathlib import Path

import imagecodecs
import numpy as np
import pillow_heif
import tifffile

from tests.data.conftest import png
from tests.data.readers import files
from tests.data.test_decode import with_orientation
from tests.fuzz import child
from tests.fuzz.mutate import mutate, with_right_checksums
from xpcnn.data import Decoding, UndecodableImage, read_image
from xpcnn.data.opencv import load_opencv

cv2 = load_opencv()

FOLDER = Path(tempfile.gettempdir())
DECODINGS = (
    Decoding(7, 5, 1),
    Decoding(6, 8, 3),
    Decoding(7, 5, 1, resizing="pad", range=(0, 255), page="max"),
    Decoding(6, 8, 2, resizing="crop", as_channels=True),
)

COLOUR = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
GREY = COLOUR[:, :, 0].copy()
ALPHA = np.dstack([COLOUR, GREY])
DEEP = COLOUR.astype(np.uint16) * 257
FLOAT = COLOUR.astype(np.float32)

FAMILIES = (
    "TIFF", "JPEG 2000", "JPEG", "APNG", "PNG", "BMP", "WebP", "GIF", "PPM", "PFM", "Sun raster", "AVIF", "HEIC",
)  # fmt: skip

#: What tifffile is asked to write, for each way in which pixels and pages may lie in a file.
TIFFS = {
    "LZW, with differences": (COLOUR, {"compression": "lzw", "predictor": True}),
    "deflate, in tiles": (COLOUR, {"compression": "zlib", "tile": (16, 16)}),
    "PackBits": (GREY, {"compression": "packbits"}),
    "16 bits in planes": (DEEP.transpose(2, 0, 1), {"photometric": "rgb", "planarconfig": "separate"}),
    "BigTIFF, the other way round": (DEEP, {"bigtiff": True, "byteorder": ">"}),
    "inks": (np.dstack([COLOUR, GREY]), {"photometric": "separated"}),
    "a stack of ImageJ's": (np.stack([GREY] * 3), {"imagej": True, "metadata": {"axes": "ZYX"}}),
    "a stack of OME's": (np.stack([GREY] * 3), {"ome": True, "metadata": {"axes": "TYX"}}),
    "pages": (np.stack([GREY] * 3), {"metadata": None, "photometric": "minisblack"}),
    "JPEG inside": (COLOUR, {"compression": "jpeg", "photometric": "rgb"}),
    "JPEG 2000 inside": (COLOUR, {"compression": "jpeg2000"}),
    "ZSTD inside": (DEEP, {"compression": "zstd"}),
    "LERC inside": (GREY, {"compression": "lerc"}),
}

#: What OpenCV is asked to write: (suffix, image, options). Those that this build of it cannot write are left out.
WRITTEN = {
    "JPEG": (".jpg", COLOUR),
    "grey JPEG": (".jpg", GREY),
    "progressive JPEG": (".jpg", COLOUR, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "PNG": (".png", COLOUR),
    "grey PNG": (".png", GREY),
    "PNG of 16 bits": (".png", DEEP),
    "PNG with alpha": (".png", ALPHA),
    "PNG of 1 bit": (".png", GREY, cv2.IMWRITE_PNG_BILEVEL, 1),
    "PFM": (".pfm", FLOAT),
    "TIFF": (".tiff", COLOUR),
    "TIFF of 16 bits": (".tiff", DEEP),
    "TIFF of floats": (".tiff", FLOAT),
    "TIFF, not compressed": (".tiff", COLOUR, cv2.IMWRITE_TIFF_COMPRESSION, 1),
    "BMP": (".bmp", COLOUR),
    "BMP with alpha": (".bmp", ALPHA),
    "WebP": (".webp", COLOUR),
    "WebP, lossless, with alpha": (".webp", ALPHA, cv2.IMWRITE_WEBP_QUALITY, 101),
    "GIF": (".gif", COLOUR),
    "PPM": (".ppm", COLOUR),
    "Sun raster": (".ras", COLOUR),
    "AVIF": (".avif", COLOUR),
}


def gif(width, height, frames=1):
    """Return a GIF of a palette of four colours, each frame of one of them, however large it claims to be."""
    palette = bytes([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    parts = [b"GIF89a" + struct.pack("<HHBBB", width, height, 0x81, 0, 0) + palette]
    for frame in range(frames):
        # clear, one pixel, end, as codes of 3 bits from the lowest on
        codes = (4 | (frame % 4) << 3 | 5 << 6).to_bytes(2, "little")
        parts.append(b"\x21\xf9\x04\0\0\0\0\0")
        parts.append(b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02" + codes + b"\0")
    return b"".join([*parts, b";"])


def whole():
    """Return {kind: bytes} of valid images."""
    written = {}
    for kind, (suffix, image, *options) in WRITTEN.items():
        try:
            done, encoded = cv2.imencode(suffix, image, options)
        except cv2.error:
            continue
        if done:
            written[kind] = encoded.tobytes()
    written["JPEG, turned"] = with_orientation(written["JPEG"], 6)
    rows = b"".join(b"\0" + bytes(column % 3 for column in range(9)) for _ in range(12))
    written["PNG with a palette"] = png(12, 9, 3, 8, rows, (b"PLTE", bytes([10, 20, 30, 200, 100, 0, 1, 2, 3])))
    written["GIF, animated"] = gif(1, 1, frames=3)
    written["APNG"] = files.apng([COLOUR, COLOUR // 2], default=COLOUR)
    written["WebP, turned"] = files.webp_with_exif(COLOUR, b"Exif\0\0" + files.exif(6))
    written["BMP with masks"] = files.bmp(
        9, 12, 32, ALPHA[::-1].tobytes(), compression=3, masks=(0xFF, 0xFF00, 0xFF0000)
    )
    written["PPM of maximum 15"] = b"P6 9 12 15\n" + (COLOUR // 17).tobytes()
    for kind, (values, options) in TIFFS.items():
        file = io.BytesIO()
        tifffile.imwrite(file, values, **options)
        written[f"TIFF, {kind}"] = file.getvalue()
    written["JPEG 2000"] = imagecodecs.jpeg2k_encode(COLOUR, codecformat="jp2")
    heic = io.BytesIO()
    pillow_heif.from_bytes("RGB", (9, 12), COLOUR.tobytes()).save(heic)
    written["HEIC"] = heic.getvalue()
    return written


def tiff(width, height, bits=8, samples=1, compression=1, content=bytes(64)):
    """Return a TIFF of one strip that claims a size."""
    entries = [
        (256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, compression), (262, 3, 1), (273, 4, 200),
        (277, 3, samples), (278, 4, height), (279, 4, len(content)),
    ]  # fmt: skip
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", t, k, 1, v) for t, k, v in entries)
    return (b"II*\0" + struct.pack("<I", 8) + directory + bytes(4)).ljust(200, b"\0") + content


def bmp(width, height, bits=24, compression=0):
    """Return a BMP without pixels that claims a size."""
    return (
        b"BM"
        + struct.pack("<IIIIiiHHIIiiII", 154, 0, 54, 40, width, height, 1, bits, compression, 0, 0, 0, 0, 0)
        + bytes(100)
    )


def bombs():
    """Yield files of a few bytes that claim gigapixels, or decode to them."""
    for side in (2**14, 2**15, 2**16 - 1, 2**20, 2**31 - 1):
        yield f"PNG of {side} by {side}", png(side, side, 2, 8, bytes(100))
        yield f"PNG of 16 bits, {side} by {side}", png(side, side, 6, 16, bytes(100))
        yield f"TIFF of {side} by {side}", tiff(side, side)
        yield f"TIFF of 64 bits, {side} by {side}", tiff(side, side, bits=64, samples=4)
        yield (
            f"TIFF, deflated, of {side} by {side}",
            tiff(side, side, compression=8, content=zlib.compress(bytes(2000))),
        )
        yield f"BMP of {side} by {side}", bmp(side, side)
        yield f"BMP upside down of {side} by {side}", bmp(side, -side, 8, 1)
        for magic in (b"P6", b"P5", b"P3", b"P4", b"P1", b"P7"):
            yield f"{magic.decode()} of {side} by {side}", magic + b"\n%d %d\n255\n" % (side, side) + bytes(100)
        yield (
            f"Sun raster of {side} by {side}",
            struct.pack(">8I", 0x59A66A95, side, side, 24, 100, 1, 0, 0) + bytes(100),
        )
        yield (
            f"Radiance of {side} by {side}",
            b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y %d +X %d\n" % (side, side) + bytes(9),
        )
        yield f"PFM of {side} by {side}", b"PF\n%d %d\n-1.0\n" % (side, side) + bytes(100)
    small = tiff(8, 8)
    after = 10 + 9 * 12
    yield "TIFF whose page follows itself", small[:after] + struct.pack("<I", 8) + small[after + 4 :]
    pages = b"".join(struct.pack("<HHHIII", 1, 256, 4, 1, 8, 8 + 18 * (number + 1)) for number in range(200_000))
    yield "TIFF of 200,000 pages", b"II*\0" + struct.pack("<I", 8) + pages
    for tag in (270, 273, 279):
        lie = struct.pack("<HHHIII", 1, tag, 4, 2**31, 8, 0)
        yield f"TIFF whose tag {tag} has 2**31 values", b"II*\0" + struct.pack("<I", 8) + lie
    size = '<OME><Image><Pixels SizeX="8" SizeY="8" SizeT="300000000" SizeC="1" SizeZ="9" Type="uint8"/></Image></OME>'
    file = io.BytesIO()
    tifffile.imwrite(file, GREY, description=size, metadata=None)
    yield "TIFF of 300,000,000 times, as OME says", file.getvalue()
    file = io.BytesIO()
    tifffile.imwrite(file, GREY, description="ImageJ=1.53\nimages=2000000000\nslices=2000000000\n", metadata=None)
    yield "TIFF of 2,000,000,000 slices, as ImageJ says", file.getvalue()
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((8192, 8192, 3), np.uint8), photometric="rgb", compression="zlib", metadata=None)
    yield "TIFF that is of 8192 by 8192", file.getvalue()
    yield "GIF of 65,535 by 65,535", gif(65535, 65535)
    yield "GIF of 65,535 by 65,535, 100 times", gif(65535, 65535, 100)
    yield "GIF of 16,000 by 16,000", gif(16000, 16000)
    size = struct.pack("<I", 2**14 - 1)[:3] * 2
    extended = b"VP8X" + struct.pack("<I", 10) + b"\x10\0\0\0" + size
    yield "WebP of 16,384 by 16,384", b"RIFF" + struct.pack("<I", len(extended) + 100) + b"WEBP" + extended + bytes(96)
    lossless = (
        b"VP8L" + struct.pack("<I", 90) + b"\x2f" + struct.pack("<I", (2**14 - 1) | (2**14 - 1) << 14) + bytes(86)
    )
    yield "WebP, lossless, of 16,384 by 16,384", b"RIFF" + struct.pack("<I", 102) + b"WEBP" + lossless
    jpeg = whole()["JPEG"]
    frame = jpeg.index(b"\xff\xc0")
    yield "JPEG of 65,500 by 65,500", jpeg[: frame + 5] + struct.pack(">HH", 65500, 65500) + jpeg[frame + 9 :]
    yield "PNG that is of 8000 by 8000", partial(flat_png, 8000)


def flat_png(side):
    """Return a PNG of black pixels: some 200 KB that decode to a thousand times as much."""
    deflate = zlib.compressobj(9)
    rows = b"".join(deflate.compress(bytes(side * 3 + 1)) for _ in range(side)) + deflate.flush()
    empty = png(side, side, 2, 8, b"")
    start = empty.index(b"IDAT") - 4
    return with_right_checksums(empty[:start] + struct.pack(">I", len(rows)) + b"IDAT" + rows + bytes(4) + empty[-12:])


def attempt(make, decoding):
    """Read a file: bytes of the size asked for, or a reason in one line why not."""
    path = FOLDER / "image.png"
    path.write_bytes(make())
    try:
        image = read_image(path, decoding)
    except UndecodableImage as error:
        if "memory" in error.reason or "alloc" in error.reason:  # a size that should have been refused before
            raise
        return child.refused(error)
    assert image.dtype == np.uint8
    assert image.shape == (decoding.channels, decoding.height, decoding.width)
    assert image.flags.c_contiguous
    return "survived"


def _survives(make, decoding):
    assert attempt(make, decoding) == "survived"
    return "survived"


def cases(seed, count):
    """Yield the cases."""
    images = whole()
    for decoding in DECODINGS[:3]:
        for kind, content in images.items():
            # No range says how to read these, and an animation whose default image is not a frame has no maximum.
            if kind not in (("APNG",) if decoding.range else ("TIFF of floats", "PFM")):
                yield "image, whole", kind, partial(_survives, partial(bytes, content), decoding)
        for name, content in child.some(bombs(), max(1, count // 2)):
            made = content if callable(content) else partial(bytes, content)
            yield "image, claims to be huge", name, partial(attempt, made, decoding)
    cuts = [(kind, at) for kind, content in images.items() for at in range(len(content))]
    for kind, at in child.some(cuts, count):
        yield "image, cut off", f"{kind} at {at}", partial(attempt, partial(bytes, images[kind][:at]), DECODINGS[1])
    kinds = list(images)
    for number in range(count):
        kind, key = kinds[number % len(kinds)], f"image {seed} {number}"
        family = next(name for name in FAMILIES if name in kind)
        other = images[kinds[number // len(kinds) % len(kinds)]]
        yield (
            f"{family}, mutated",
            f"{kind}: {key}",
            partial(attempt, partial(damaged, images[kind], key, other), DECODINGS[number % len(DECODINGS)]),
        )


def damaged(content, key, other):
    """Return a mutated image; half the PNGs with the right checksums, or nothing behind these is ever reached."""
    mutated = mutate(content, key, other)
    return with_right_checksums(mutated) if zlib.crc32(key.encode()) % 2 else mutated
