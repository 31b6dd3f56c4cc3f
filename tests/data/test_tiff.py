"""Pictures in TIFF files come out as tifffile and Pillow read them, or are refused with the reason."""

import io
import logging
import struct
import sys
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from xpcnn.data.pixels import Refusal
from xpcnn.data.tiff import describe, read_tiff

DTYPES = ["uint8", "uint16", "uint32", "int16", "float32"]
#: Tags by the names of the specification.
WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, OFFSETS, ORIENTATION, SAMPLES, ROWS, COUNTS, PLANAR, PREDICTOR = (
    256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 284, 317,
)  # fmt: skip


def noise(shape, dtype="uint8", seed=0):
    """Return values all over the range of a dtype, small steps beside large ones."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    info = np.iinfo(dtype)
    values = rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    values[..., : shape[-1] // 2] >>= 3
    return values


def written(array, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def single(pixels, width, height, order="<", **tags):
    """Return a file of one strip, put together by hand, with SHORT and LONG tags of one value or several."""
    numbers = {"WIDTH": width, "LENGTH": height, "BITS": 8, "COMPRESSION": 1, "PHOTOMETRIC": 1, "SAMPLES": 1}
    numbers |= {"ROWS": height, "OFFSETS": 8, "COUNTS": len(pixels)} | tags
    entries = {(int(name[1:]) if name[0] == "T" else globals()[name]): value for name, value in numbers.items()}
    entries = {tag: value for tag, value in entries.items() if value is not None}
    data, directory = bytearray(pixels) + bytes(len(pixels) % 2), b""
    for tag, value in sorted(entries.items()):
        values = value if isinstance(value, (list, tuple)) else [value]
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(packed) > 4:
            place = 8 + len(data)
            data += packed
            packed = struct.pack(f"{order}I", place)
        directory += struct.pack(f"{order}HHI", tag, 4, len(values)) + packed
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(data))
    return header + bytes(data) + struct.pack(f"{order}H", len(entries)) + directory + bytes(4)


def patched(content, tag, value, page=0):
    """Return a file with another first value of a page's tag."""
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        entry, order = file.pages[page].tags[tag], file.byteorder
    size = {3: "H", 4: "I", 16: "Q"}[int(entry.dtype)]
    data = bytearray(content)
    struct.pack_into(order + size, data, entry.valueoffset, value)
    return bytes(data)


# Samples


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("layout", [{}, {"rowsperstrip": 7}, {"tile": (16, 32)}], ids=["strip", "strips", "tiles"])
@pytest.mark.parametrize("samples", [None, "contig", "separate"])
@pytest.mark.parametrize("compression", [None, "packbits", "zlib", "lzw"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_plain_compressions_give_what_was_written(dtype, compression, samples, layout, order):
    shape = {None: (37, 45), "contig": (37, 45, 3), "separate": (3, 37, 45)}[samples]
    array = noise(shape, dtype)
    options = {"photometric": "rgb", "planarconfig": samples} if samples else {"photometric": "minisblack"}
    content = written(array, compression=compression, byteorder=order, **layout, **options)
    pixels = read_tiff(content)
    expected = array.transpose(1, 2, 0) if samples == "separate" else array.reshape(37, 45, -1)
    assert pixels.values.dtype == array.dtype
    assert pixels.values.dtype.isnative
    assert pixels.values.flags.c_contiguous
    np.testing.assert_array_equal(pixels.values, expected)
    assert (pixels.kind, pixels.alpha, pixels.pages) == ("rgb" if samples else "grey", False, 1)
    assert read_tiff(content).values.tobytes() == pixels.values.tobytes()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("layout", [{"rowsperstrip": 7}, {"tile": (16, 32)}], ids=["strips", "tiles"])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("compression", ["zlib", "lzw", "zstd"])
@pytest.mark.parametrize(("dtype", "predictor"), [*((dtype, 2) for dtype in DTYPES[:4]), ("float32", 3)])
def test_predictors_are_undone(dtype, predictor, compression, samples, layout, order):
    pytest.importorskip("imagecodecs")
    array = noise((37, 45, samples), dtype)
    content = written(
        array[:, :, 0] if samples == 1 else array,
        compression=compression,
        predictor=predictor,
        byteorder=order,
        photometric="rgb" if samples == 3 else "minisblack",
        **layout,
    )
    np.testing.assert_array_equal(read_tiff(content).values, array)


@pytest.mark.parametrize("name", ["<f2", "<f8", "i1"])
def test_other_depths_are_widened_or_narrowed_to_what_pixels_hold(name):
    array = noise((9, 11), name)
    pixels = read_tiff(written(array, photometric="minisblack")).values
    assert pixels.dtype == (np.int16 if name == "i1" else np.float32)
    np.testing.assert_array_equal(pixels[:, :, 0], array.astype(pixels.dtype))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused(value):
    array = noise((9, 11), "float32")
    array[3, 4] = value
    with pytest.raises(Refusal, match="NaN or infinite"):
        read_tiff(written(array, photometric="minisblack"))


def test_values_too_large_for_32_bits_are_refused():
    with pytest.raises(Refusal, match="larger than 32 bits"):
        read_tiff(written(np.full((2, 2), 1e300), photometric="minisblack"))


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_separate_planes_of_16_bits_are_right_where_opencv_makes_garbage(channels, compression):
    array = noise((channels, 33, 21), "uint16")
    extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    content = written(array, photometric="rgb", planarconfig="separate", compression=compression, **extra)
    pixels = read_tiff(content)
    np.testing.assert_array_equal(pixels.values, array.transpose(1, 2, 0))
    assert (pixels.kind, pixels.alpha) == ("rgb", channels == 4)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("width", [1, 7, 8, 17])
@pytest.mark.parametrize("photometric", [0, 1])
def test_few_bits_are_spread_over_0_to_255(bits, width, photometric):
    array = np.random.default_rng(bits).integers(0, 2**bits, (5, width), np.uint8)
    rows = ["".join(f"{value:0{bits}b}" for value in row) for row in array]
    size = -(-width * bits // 8)
    data = b"".join(int(row.ljust(size * 8, "0"), 2).to_bytes(size, "big") for row in rows)
    pixels = read_tiff(single(data, width, 5, BITS=bits, PHOTOMETRIC=photometric))
    light = array if photometric else 2**bits - 1 - array
    np.testing.assert_array_equal(pixels.values[:, :, 0], light * (255 // (2**bits - 1)))
    assert pixels.kind == "grey"


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "CMYK", "P", "I;16", "F"])
@pytest.mark.parametrize("compression", [None, "packbits", "tiff_lzw", "tiff_adobe_deflate"])
def test_what_pillow_writes_is_what_pillow_reads(mode, compression):
    if mode == "I;16":
        image = Image.fromarray(noise((31, 27), "uint16"))
    elif mode == "F":
        image = Image.fromarray(noise((31, 27), "float32"))
    else:
        image = Image.fromarray(noise((31, 27, 3))).convert("RGB" if mode == "CMYK" else mode).convert(mode)
    file = io.BytesIO()
    image.save(file, "TIFF", compression=compression)
    pixels = read_tiff(file.getvalue())
    shown = {"1": "L", "P": "RGB", "CMYK": "RGB"}.get(mode, mode)
    expected = np.asarray(image if shown == mode else image.convert(shown))
    np.testing.assert_allclose(
        pixels.values.astype(float), expected.reshape(31, 27, -1), rtol=0, atol=1 if mode == "CMYK" else 0
    )
    assert pixels.kind == ("grey" if mode in ("1", "L", "I;16", "F") else "rgb")
    assert pixels.alpha == (mode == "RGBA")


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("shape", [(21, 34), (21, 34, 3)])
@pytest.mark.parametrize("compression", [1, 5, 32946])
def test_what_opencv_writes_comes_back(dtype, shape, compression):
    array = noise(shape, dtype)
    done, content = cv2.imencode(".tiff", array, [cv2.IMWRITE_TIFF_COMPRESSION, compression])
    assert done
    expected = array[:, :, ::-1] if len(shape) == 3 else array[:, :, np.newaxis]
    np.testing.assert_array_equal(read_tiff(content).values, expected)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_where_white_is_zero_light_is_turned_round(dtype):
    array = noise((8, 9), dtype)
    pixels = read_tiff(written(array, photometric="miniswhite")).values
    np.testing.assert_array_equal(pixels[:, :, 0], np.iinfo(dtype).max - array)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_cmyk_is_light_less_ink(dtype, planar):
    array, most = noise((8, 9, 4), dtype), np.iinfo(dtype).max
    stored = array if planar == "contig" else array.transpose(2, 0, 1)
    pixels = read_tiff(written(stored, photometric="separated", planarconfig=planar))
    ink = array.astype(float)
    expected = (most - ink[:, :, :3]) * (most - ink[:, :, 3:]) / most
    np.testing.assert_allclose(pixels.values, expected, rtol=0, atol=0.5)
    assert (pixels.kind, pixels.values.dtype) == ("rgb", array.dtype)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palette_is_looked_up(bits):
    table = noise((3, 2**bits), "uint16", seed=bits)
    table[0, 0] = 65535
    indices = np.arange(16) % 2**bits
    row = "".join(f"{value:0{bits}b}" for value in indices)
    data = int(row, 2).to_bytes(2 * bits, "big")
    pixels = read_tiff(single(data, 16, 1, BITS=bits, PHOTOMETRIC=3, T320=table.ravel().tolist()))
    np.testing.assert_array_equal(pixels.values[0], (table >> 8).T[indices])
    assert pixels.kind == "rgb"


def test_a_palette_of_another_size_is_refused():
    with pytest.raises(Refusal, match="its palette has 9 entries where 768 belong"):
        read_tiff(single(bytes(4), 4, 1, PHOTOMETRIC=3, T320=[1] * 9))


@pytest.mark.parametrize("extra", ["assocalpha", "unassalpha"])
@pytest.mark.parametrize(("samples", "photometric", "kind"), [(2, "minisblack", "grey"), (4, "rgb", "rgb")])
def test_transparency_is_told_apart(extra, samples, photometric, kind):
    array = noise((8, 9, samples))
    pixels = read_tiff(written(array, photometric=photometric, planarconfig="contig", extrasamples=[extra]))
    np.testing.assert_array_equal(pixels.values, array)
    assert (pixels.kind, pixels.alpha) == (kind, True)


@pytest.mark.parametrize(("samples", "photometric"), [(2, "minisblack"), (5, "minisblack"), (4, "rgb"), (6, "rgb")])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_samples_of_no_stated_meaning_are_channels(samples, photometric, planar):
    array = noise((8, 9, samples), "uint16")
    stored = array if planar == "contig" else array.transpose(2, 0, 1)
    extra = ["unspecified"] * (samples - (3 if photometric == "rgb" else 1))
    pixels = read_tiff(written(stored, photometric=photometric, planarconfig=planar, extrasamples=extra))
    np.testing.assert_array_equal(pixels.values, array)
    assert (pixels.kind, pixels.alpha) == ("channels", False)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(orientation):
    array = noise((4, 6, 3))
    content = single(array.tobytes(), 6, 4, BITS=[8, 8, 8], PHOTOMETRIC=2, SAMPLES=3, ORIENTATION=orientation)
    turns = {
        1: array, 2: array[:, ::-1], 3: array[::-1, ::-1], 4: array[::-1],
        5: array.transpose(1, 0, 2), 6: np.rot90(array, -1), 7: np.rot90(array, 2).transpose(1, 0, 2),
        8: np.rot90(array),
    }  # fmt: skip
    np.testing.assert_array_equal(read_tiff(content).values, turns[orientation])


@pytest.mark.parametrize("order", ["<", ">"])
def test_big_tiff_is_read(order):
    array = noise((12, 13, 3), "uint16")
    content = written(array, bigtiff=True, byteorder=order, photometric="rgb", compression="zlib")
    np.testing.assert_array_equal(read_tiff(content).values, array)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: np.frombuffer(data, np.uint8)])
def test_content_may_be_any_bytes(kind):
    array = noise((5, 6))
    np.testing.assert_array_equal(read_tiff(kind(written(array))).values[:, :, 0], array)


# Compressions


@pytest.mark.parametrize("layout", [{"rowsperstrip": 16}, {"tile": (16, 16)}], ids=["strips", "tiles"])
@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 3)])
def test_jpeg_is_read_as_tifffile_reads_it(shape, layout):
    pytest.importorskip("imagecodecs")
    ramp = (np.add.outer(np.arange(40), np.arange(50)) * 2).astype(np.uint8)
    array = ramp if len(shape) == 2 else np.stack([ramp, 255 - ramp, ramp // 2], axis=2)
    photometric = "rgb" if len(shape) == 3 else "minisblack"
    content = written(array, compression="jpeg", photometric=photometric, **layout)
    pixels = read_tiff(content).values
    reference = tifffile.imread(io.BytesIO(content)).reshape(pixels.shape)
    assert np.abs(pixels.astype(int) - reference.astype(int)).max() <= 3  # libjpegs differ in rounding
    assert np.abs(pixels.astype(int) - array.reshape(pixels.shape)).mean() < 4


RARE = [
    ("jpeg2000", (40, 50, 3), "uint16"),
    ("jpegxl", (40, 50, 3), "uint8"),
    ("jpegxr", (40, 50), "uint8"),
    ("png", (40, 50), "uint16"),
    ("webp", (40, 50, 3), "uint8"),
    ("zstd", (40, 50), "float32"),
    ("lzma", (40, 50), "uint32"),
    ("lerc", (40, 50), "float32"),
]


@pytest.mark.parametrize("layout", [{"rowsperstrip": 16}, {"tile": (16, 16)}], ids=["strips", "tiles"])
@pytest.mark.parametrize(("compression", "shape", "dtype"), RARE)
def test_rare_compressions_are_read_where_imagecodecs_is(compression, shape, dtype, layout):
    pytest.importorskip("imagecodecs")
    lossless = {"compressionargs": {"lossless": True}} if compression in ("jpegxl", "webp") else {}
    photometric = "rgb" if len(shape) == 3 else "minisblack"
    content = written(noise(shape, dtype), compression=compression, photometric=photometric, **lossless, **layout)
    pixels = read_tiff(content).values
    np.testing.assert_array_equal(pixels, tifffile.imread(io.BytesIO(content)).reshape(pixels.shape))


@pytest.mark.parametrize(("compression", "shape", "dtype"), RARE)
def test_without_imagecodecs_rare_compressions_are_refused_with_the_remedy(compression, shape, dtype, monkeypatch):
    pytest.importorskip("imagecodecs")
    photometric = "rgb" if len(shape) == 3 else "minisblack"
    content = written(noise(shape, dtype), compression=compression, photometric=photometric)
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(Refusal, match=r'needs the package imagecodecs: pip install "xpcnn\[microscopy\]"'):
        read_tiff(content)


@pytest.mark.parametrize("compression", [None, "packbits", "zlib", "lzw", "jpeg"])
def test_the_plain_compressions_do_not_depend_on_imagecodecs(compression, monkeypatch):
    pytest.importorskip("imagecodecs")
    content = written(noise((40, 50, 3)), compression=compression, photometric="rgb", rowsperstrip=16)
    pixels = read_tiff(content).values
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    np.testing.assert_array_equal(read_tiff(content).values, pixels)


@pytest.mark.parametrize(("number", "name"), [(6, "OJPEG"), (3, "CCITTFAX3"), (34661, "JBIG"), (777, "unknown kind")])
def test_other_compressions_are_refused_by_name(number, name):
    with pytest.raises(Refusal, match=rf"{name} \({number}\), which xpcnn does not read"):
        read_tiff(single(bytes(16), 4, 4, COMPRESSION=number))


@pytest.mark.parametrize(
    ("photometric", "words"),
    [(8, "CIELab"), (9, "ICCLab"), (32844, "LogL"), (32845, "LogLuv"), (32803, "CFA"), (6, "YCbCr"), (99, "unknown")],
)
def test_colours_that_are_not_read_are_refused(photometric, words):
    with pytest.raises(Refusal, match=words):
        read_tiff(single(bytes(48), 4, 4, BITS=[8] * 3, SAMPLES=3, PHOTOMETRIC=photometric))


def test_lerc_values_that_are_marked_not_valid_are_refused():
    imagecodecs = pytest.importorskip("imagecodecs")
    valid = np.ones((8, 8), bool)
    valid[0] = False
    data = imagecodecs.lerc_encode(noise((8, 8)), masks=valid)
    with pytest.raises(Refusal, match="marked as not valid"):
        read_tiff(single(data, 8, 8, COMPRESSION=34887))


# Pages


def stack(pages=4, dtype="uint16"):
    return np.stack([noise((11, 13), dtype, seed=page) for page in range(pages)])


def plain(pages):
    """Return a file of pages of which nothing says what they are."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for page in pages:
            writer.write(page, metadata=None, contiguous=False, photometric="rgb" if page.ndim == 3 else "minisblack")
    return file.getvalue()


def kinds_of_stacks():
    array = stack()
    return {
        "plain": plain(array),
        "shaped": written(array, photometric="minisblack", metadata={"axes": "ZYX"}),
        "contiguous": written(array, photometric="minisblack", contiguous=True),
        "ImageJ": written(array, imagej=True, metadata={"axes": "ZYX"}),
        "OME": written(array, ome=True, photometric="minisblack", metadata={"axes": "ZYX"}),
    }


@pytest.mark.parametrize("kind", ["plain", "shaped", "contiguous", "ImageJ", "OME"])
def test_a_stack_gives_the_page_that_is_asked_for(kind):
    content, array = kinds_of_stacks()[kind], stack()
    for page in range(4):
        pixels = read_tiff(content, page=page)
        np.testing.assert_array_equal(pixels.values[:, :, 0], array[page])
        assert (pixels.kind, pixels.pages) == ("grey", 4)
    np.testing.assert_array_equal(read_tiff(content, page="max").values[:, :, 0], array.max(axis=0))
    np.testing.assert_array_equal(read_tiff(content, page="mean").values[:, :, 0], np.rint(array.mean(axis=0)))
    for page in (4, -1):
        with pytest.raises(Refusal, match=f"it has no page {page}: it holds 4, counted from 0 on"):
            read_tiff(content, page=page)


def test_pages_become_channels_where_that_is_asked_and_nothing_says_otherwise():
    array = stack()
    kinds = kinds_of_stacks()
    for kind in ("plain", "contiguous"):
        pixels = read_tiff(kinds[kind], all_pages_as_channels=True)
        np.testing.assert_array_equal(pixels.values, array.transpose(1, 2, 0))
        assert (pixels.kind, pixels.pages) == ("channels", 1)
    for kind in ("shaped", "ImageJ", "OME"):
        assert read_tiff(kinds[kind], all_pages_as_channels=True).pages == 4
    colours = plain([noise((5, 6, 3), seed=seed) for seed in range(2)])
    assert read_tiff(colours, all_pages_as_channels=True).pages == 2


@pytest.mark.parametrize("how", ["max", "mean"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_pages_are_taken_together_in_their_own_dtype(dtype, how):
    array = stack(3, dtype)
    pixels = read_tiff(plain(array), page=how).values[:, :, 0]
    exact = array.max(axis=0) if how == "max" else array.astype(np.float64).mean(axis=0)
    assert pixels.dtype == array.dtype
    np.testing.assert_array_equal(
        pixels,
        exact
        if array.dtype.kind == "f" and how == "max"
        else exact.astype(dtype)
        if array.dtype.kind == "f"
        else np.rint(exact),
    )


def test_pages_that_differ_cannot_be_taken_together():
    content = plain([noise((5, 6)), noise((6, 5))])
    np.testing.assert_array_equal(read_tiff(content, page=1).values[:, :, 0], noise((6, 5)))
    with pytest.raises(Refusal, match="differ: 5 x 6 uint8 and 6 x 5 uint8"):
        read_tiff(content, page="max")
    with pytest.raises(Refusal, match="differ"):
        read_tiff(content, all_pages_as_channels=True)


@pytest.mark.parametrize("writer", ["imagej", "ome", "shaped"])
@pytest.mark.parametrize("axes", ["CYX", "TCYX", "ZCYX", "TZCYX"])
def test_channels_are_samples_and_the_rest_are_pages(writer, axes):
    sizes = {"T": 2, "Z": 3, "C": 4, "Y": 7, "X": 9}
    array = noise(tuple(sizes[axis] for axis in axes), "uint16")
    options = {} if writer == "shaped" else {writer: True}
    content = written(array, photometric="minisblack", metadata={"axes": axes}, **options)
    expected = array.reshape(-1, 4, 7, 9).transpose(0, 2, 3, 1)
    for page, values in enumerate(expected):
        pixels = read_tiff(content, page=page)
        np.testing.assert_array_equal(pixels.values, values)
        assert (pixels.kind, pixels.pages) == ("channels", len(expected))


@pytest.mark.parametrize("axes", ["TCZYX", "CTZYX", "ZTCYX", "CZTYX", "ZCTYX"])
def test_ome_may_order_its_axes_otherwise(axes):
    sizes = {"T": 2, "Z": 3, "C": 4, "Y": 7, "X": 9}
    array = noise(tuple(sizes[axis] for axis in axes), "uint16")
    content = written(array, photometric="minisblack", ome=True, metadata={"axes": axes})
    expected = np.moveaxis(array, axes.index("C"), -1).reshape(-1, 7, 9, 4)
    assert read_tiff(content).pages == 6
    for page, values in enumerate(expected):
        np.testing.assert_array_equal(read_tiff(content, page=page).values, values)


@pytest.mark.parametrize("order", ["czt", "ctz", "zct", "ztc", "tcz", "tzc"])
def test_imagej_may_order_its_axes_otherwise(order):
    sizes = {"t": 2, "z": 3, "c": 4}
    planes = np.stack([noise((7, 9), seed=seed) for seed in range(24)])
    said = f"ImageJ=1.53\nimages=24\nchannels=4\nslices=3\nframes=2\norder={order}\nhyperstack=true\n"
    content = written(planes, photometric="minisblack", description=said, metadata=None)
    axes = order[::-1]
    array = planes.reshape(*(sizes[axis] for axis in axes), 7, 9)
    expected = np.moveaxis(array, axes.index("c"), -1).reshape(-1, 7, 9, 4)
    for page, values in enumerate(expected):
        np.testing.assert_array_equal(read_tiff(content, page=page).values, values)


def test_planes_that_follow_the_only_page_are_found():
    array = noise((3, 2, 7, 9), "uint16")
    said = "ImageJ=1.53\nimages=6\nchannels=2\nslices=3\n"
    content = written(array[0, 0], byteorder=">", description=said, metadata=None, photometric="minisblack")
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        offset = file.pages[0].dataoffsets[0]
    assert offset + 7 * 9 * 2 == len(content)
    content = content[:offset] + array.astype(">u2").tobytes()
    for page in range(3):
        np.testing.assert_array_equal(read_tiff(content, page=page).values, array[page].transpose(1, 2, 0))
    with pytest.raises(Refusal, match="truncated: its description declares 6 planes"):
        read_tiff(content[:-1])


def test_colour_pages_of_a_stack_stay_colours():
    array = noise((4, 7, 9, 3))
    for options in ({"imagej": True}, {"ome": True, "metadata": {"axes": "ZYXS"}}, {"metadata": {"axes": "ZYXS"}}):
        content = written(array, photometric="rgb", **options)
        for page in range(4):
            pixels = read_tiff(content, page=page)
            np.testing.assert_array_equal(pixels.values, array[page])
            assert (pixels.kind, pixels.pages) == ("rgb", 4)


def test_smaller_versions_of_a_page_are_not_counted():
    file, array = io.BytesIO(), noise((32, 32))
    with tifffile.TiffWriter(file) as writer:
        writer.write(array[::2, ::2], subfiletype=1, metadata=None)
        writer.write(array, metadata=None)
    pixels = read_tiff(file.getvalue())
    assert pixels.pages == 1
    np.testing.assert_array_equal(pixels.values[:, :, 0], array)


OME = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:a"><Image><Pixels '
    'DimensionOrder="XYZCT" SizeX="13" SizeY="11" SizeZ="{z}" SizeC="1" SizeT="1" Type="uint16">{data}</Pixels>'
    "</Image></OME>"
)


def ome(z, data, pages=2):
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for number, page in enumerate(stack(pages)):
            description = OME.format(z=z, data=data) if number == 0 else None
            writer.write(page, metadata=None, contiguous=False, description=description)
    return file.getvalue()


def test_ome_may_tell_where_each_plane_lies():
    content = ome(2, '<TiffData IFD="1" FirstZ="0"/><TiffData IFD="0" FirstZ="1"/>')
    for page in range(2):
        np.testing.assert_array_equal(read_tiff(content, page=page).values[:, :, 0], stack()[1 - page])


def test_pages_beside_the_picture_that_ome_describes_follow_behind():
    content = ome(2, '<TiffData IFD="1"/><TiffData IFD="2" FirstZ="1"/>', pages=3)
    for page, there in enumerate((1, 2, 0)):
        np.testing.assert_array_equal(read_tiff(content, page=page).values[:, :, 0], stack()[there])
    np.testing.assert_array_equal(read_tiff(content, page="max").values[:, :, 0], stack(3)[1:].max(axis=0))


def test_planes_in_other_files_are_refused_and_no_file_is_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.tif").write_bytes(ome(1, ""))
    other = '<TiffData IFD="0" FirstZ="1"><UUID FileName="other.tif">urn:uuid:b</UUID></TiffData>'
    content = ome(2, '<TiffData IFD="0"/>' + other, pages=1)
    np.testing.assert_array_equal(read_tiff(content).values[:, :, 0], stack(1)[0])
    for page in (1, "max"):
        with pytest.raises(Refusal, match="in another file"):
            read_tiff(content, page=page)
    with pytest.raises(Refusal, match="in other files"):
        read_tiff(ome(2, other.replace('Z="1"', 'Z="0"') + other, pages=1))


@pytest.mark.parametrize(
    ("z", "data", "reason"),
    [
        (3, "", "declares 3 planes and holds 2"),
        (300_000_000, "", "does not fit"),
        (2, '<TiffData FirstZ="2"/>', "does not fit"),
        (2, '<TiffData IFD="0"/><TiffData IFD="1"/>', "does not fit"),
        (2, '<TiffData IFD="7"/>', "declares 8 planes and holds 2"),
        (2, '<TiffData PlaneCount="9999999999"/>', "does not fit"),
        (2, "<TiffData", "OME-XML cannot be read"),
        ("-1", "", "does not fit"),
    ],
)
def test_an_ome_description_that_does_not_fit_is_refused(z, data, reason):
    with pytest.raises(Refusal, match=reason):
        read_tiff(ome(z, data))


@pytest.mark.parametrize(
    "description",
    [
        '{"shape": [5, 11, 13]}',
        '{"shape": [0]}',
        '{"shape": [-1, -1, 11, 13]}',
        f'{{"shape": [{"9" * 4000}, {"9" * 4000}, 11, 13]}}',
        '{"shape": [2, 11, 13], "axes": "YYX"}',
        '{"shape": "much"}',
        '{"shape":',
        '{"shape": [1e400]}',
        "ImageJ=1.53\nimages=7\nslices=7\n",
        "ImageJ=1.53\nslices=2\norder=ccc\n",
    ],
)
def test_other_descriptions_that_do_not_fit_are_refused(description):
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for number, page in enumerate(stack(2)):
            extra = description if number == 0 else None
            writer.write(page, metadata=None, contiguous=False, description=extra)
    with pytest.raises(Refusal):
        read_tiff(file.getvalue())


def test_more_pages_than_there_is_time_for_are_refused():
    said = "ImageJ=1.53\nimages=100001\nslices=100001\n"
    content = written(np.zeros((1, 1), np.uint8), description=said, metadata=None, photometric="minisblack")
    with pytest.raises(Refusal, match="more than 100000 planes"):
        read_tiff(content + bytes(100_000))


def test_stacks_of_metamorph_are_refused():
    with pytest.raises(Refusal, match="MetaMorph"):
        read_tiff(single(bytes(16), 4, 4, T33629=[1, 1]))


# Damage


@pytest.mark.parametrize("content", [b"", b"II", b"II*\0", b"GIF89a", b"II*\0\0\0\0\0", b"II+\0\7\0\0\0" + bytes(8)])
def test_what_is_no_tiff_file_is_refused(content):
    with pytest.raises(Refusal):
        read_tiff(content)


@pytest.mark.parametrize("compression", [None, "packbits", "zlib", "lzw"])
def test_truncated_files_are_refused(compression):
    content = written(noise((40, 50)), compression=compression, rowsperstrip=10)
    for length in range(0, len(content), 53):
        with pytest.raises(Refusal):
            read_tiff(content[:length])


def damaged(content, seed):
    """Return a file with 8 bytes in the middle half of its last strip made others."""
    rng = np.random.default_rng(seed)
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        offset, count = file.pages[0].dataoffsets[-1], file.pages[0].databytecounts[-1]
    data = bytearray(content)
    place = offset + int(rng.integers(count // 4, 3 * count // 4))
    data[place : place + 8] = bytes(byte ^ int(rng.integers(1, 256)) for byte in data[place : place + 8])
    return bytes(data)


@pytest.mark.parametrize(("compression", "most_missed"), [("zlib", 0), ("lzw", 4)])
def test_damage_in_the_middle_is_refused(compression, most_missed):
    """LZW has no checksum: what is missed are codes that go on to stand for as many bytes."""
    ramp = np.cumsum(np.random.default_rng(0).integers(-2, 3, (100, 100)), axis=1).astype(np.uint8)
    content = written(ramp, compression=compression)
    missed = 0
    for seed in range(40):
        try:
            read_tiff(damaged(content, seed))
            missed += 1
        except Refusal:
            pass
    assert missed <= most_missed


@pytest.mark.parametrize("compression", [None, "packbits", "zlib", "lzw"])
@pytest.mark.parametrize(("tag", "value"), [(OFFSETS, 0), (COUNTS, 0), (COUNTS, 3), (OFFSETS, 2**31)])
def test_a_strip_that_is_missing_or_too_short_is_refused(compression, tag, value):
    content = written(noise((40, 50)), compression=compression, rowsperstrip=10)
    with pytest.raises(Refusal):
        read_tiff(patched(content, tag, value))


@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 3)])
def test_a_jpeg_strip_without_its_end_is_refused(shape):
    pytest.importorskip("imagecodecs")
    content = written(noise(shape), compression="jpeg", photometric="rgb" if len(shape) == 3 else "minisblack")
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        (count,) = file.pages[0].databytecounts
    for missing in (1, 2, 3, 10, count // 2, count - 10, count - 1):
        with pytest.raises(Refusal, match="JPEG data"):
            read_tiff(patched(content, COUNTS, count - missing))


@pytest.mark.parametrize("shape", [(16, 50), (40, 48), (40, 50, 3)])
def test_jpeg_data_of_another_shape_are_refused(shape):
    imagecodecs = pytest.importorskip("imagecodecs")
    data = imagecodecs.jpeg8_encode(noise(shape))
    with pytest.raises(Refusal, match=r"where \(.*\) of 8 belong"):
        read_tiff(single(data, 50, 40, COMPRESSION=7))


def test_other_numbers_of_strips_are_refused():
    content = written(noise((40, 50)), rowsperstrip=10)
    with pytest.raises(Refusal, match="declares 4 strips or tiles where 8 belong"):
        read_tiff(patched(content, ROWS, 5))


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"WIDTH": 0}, "declares 4 x 0 pixels"),
        ({"WIDTH": None}, "declares 4 x 0 pixels"),
        ({"WIDTH": 2**20, "LENGTH": 2**20}, "larger than 2"),
        ({"BITS": 5}, "unsigned numbers of 5 bits"),
        ({"SAMPLES": 3, "BITS": [8, 8, 4]}, "differ in depth"),
        ({"T339": 5}, "complex or of an unknown kind"),
        ({"PHOTOMETRIC": None}, "does not say what its samples mean"),
        ({"T266": 2}, "reverse order"),
        ({"PLANAR": 3}, "order"),
        ({"SAMPLES": 2, "T338": [1, 1]}, "2 of them extra"),
        ({"T322": 2**16, "T323": 2**16, "T324": 8, "T325": 16}, "tiles are larger than 2"),
        ({"COUNTS": 15}, "holds 15 bytes where 16 belong|cannot hold"),
        ({"WIDTH": 1, "PHOTOMETRIC": 5, "SAMPLES": 4, "BITS": [8] * 4, "T332": 2}, "InkSet 2"),
    ],
)
def test_declarations_that_cannot_be_are_refused(tags, reason):
    with pytest.raises(Refusal, match=reason):
        read_tiff(single(bytes(16), **({"width": 4, "height": 4} | tags)))


def test_an_unknown_predictor_is_refused():
    with pytest.raises(Refusal, match="predictor 9 with 8 bits"):
        read_tiff(single(zlib.compress(bytes(16)), 4, 4, COMPRESSION=8, PREDICTOR=9))


def test_a_chain_of_directories_in_a_circle_is_refused_at_once():
    content = bytearray(plain(stack(150)))
    with tifffile.TiffFile(io.BytesIO(bytes(content))) as file:
        first, last = file.pages[0].offset, file.pages[149].offset
    (tags,) = struct.unpack_from("<H", content, last)
    struct.pack_into("<I", content, last + 2 + 12 * tags, first)
    with pytest.raises(Refusal, match="larger than itself"):
        read_tiff(bytes(content))


def test_pages_that_share_their_strips_are_not_taken_together():
    """A few kilobytes could claim as many pages of as many strips as there are bytes, each a thousand times larger."""
    shared = single(bytes(3000), 60, 50)
    with tifffile.TiffFile(io.BytesIO(shared)) as file:
        start = file.pages[0].offset
    tags = shared[start : len(shared) - 4]
    pages = b"".join(tags + struct.pack("<I", start + (number + 1) * (len(tags) + 4)) for number in range(2))
    content = shared[:start] + pages + tags + bytes(4)
    assert read_tiff(content, page=2).pages == 3
    with pytest.raises(Refusal, match="share strips"):
        read_tiff(content, page="max")


def test_nothing_is_logged_and_logging_stays_as_it_was(caplog):
    before = logging.getLogger("tifffile").__dict__.copy(), [*logging.getLogger().handlers]
    with caplog.at_level(logging.DEBUG), pytest.raises(Refusal):
        read_tiff(single(bytes(16), 4, 4, COMPRESSION=777))
    assert not caplog.records
    assert (logging.getLogger("tifffile").__dict__, [*logging.getLogger().handlers]) == before


# What the first generation asks


@pytest.mark.parametrize(("compression", "number"), [(None, 1), ("lzw", 5), ("zlib", 8), ("packbits", 32773)])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_file_is_described(compression, number, planar, dtype):
    array = noise((3, 8, 9) if planar == "separate" else (8, 9, 3), dtype)
    content = written(array, compression=compression, planarconfig=planar, photometric="rgb")
    assert describe(content) == (number, planar == "separate", array.itemsize * 8)


def test_a_compression_that_is_not_read_is_described_too():
    assert describe(single(bytes(16), 4, 4, COMPRESSION=3)) == (3, False, 8)


def test_what_cannot_be_described_is_refused():
    with pytest.raises(Refusal, match="no TIFF file"):
        describe(b"no picture")
