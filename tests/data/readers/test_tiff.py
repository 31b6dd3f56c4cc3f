"""What a TIFF file is decoded to: its values as written, what they mean, or a reason why not."""

import io
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from tests.data.conftest import cv2
from xpcnn.data.pixels import Refusal
from xpcnn.data.readers.tiff import read_tiff
from xpcnn.extras import install_line

DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"]
COMPRESSIONS = [None, "packbits", "zlib", "lzw"]
LAYOUTS = {"one strip": {}, "strips": {"rowsperstrip": 8}, "tiles": {"tile": (16, 32)}}
H, W = 37, 45


def written(values, **options):
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **options)
    return stream.getvalue()


def some_values(shape, dtype="uint8"):
    rng, dtype = np.random.default_rng(1), np.dtype(dtype)
    if dtype.kind == "f":
        return rng.normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def with_tag(values, tag, *numbers, **options):
    """A file whose tag says these numbers, though it may be one that tifffile writes for itself."""
    content = written(values, **options)
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        entry = file.pages[0].tags[tag]
    size = {1: 1, 3: 2, 4: 4}[int(entry.dtype)]
    content = bytearray(content)
    for place, number in enumerate(numbers):
        start = entry.valueoffset + place * size
        content[start : start + size] = number.to_bytes(size, "little")
    return bytes(content)


def refusal(content, **options):
    with pytest.raises(Refusal) as caught:
        read_tiff(content, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def grey(content, **options):
    return read_tiff(content, **options).values[:, :, 0]


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_values_are_those_that_were_written(dtype, compression, layout, byteorder):
    held = {"int8": "int16", "float16": "float32", "float64": "float32"}.get(dtype, dtype)
    predictors = [False, True] if compression in ("zlib", "lzw") else [False]
    for predictor in predictors:
        for samples, planar in [(1, None), (3, "contig"), (3, "separate")]:
            values = some_values((H, W, samples), dtype)
            stored = np.moveaxis(values, 2, 0) if planar == "separate" else values
            content = written(
                stored[:, :, 0] if samples == 1 else stored,
                photometric="minisblack" if samples == 1 else "rgb",
                planarconfig=planar,
                compression=compression,
                predictor=predictor,
                byteorder=byteorder,
                bigtiff=predictor,
                **LAYOUTS[layout],
            )
            picture = read_tiff(content)
            assert (picture.kind, picture.alpha, picture.pages) == ("grey" if samples == 1 else "rgb", False, 1)
            assert picture.values.dtype == np.dtype(held)
            assert picture.values.flags.c_contiguous
            np.testing.assert_array_equal(picture.values, values.astype(held))


@pytest.mark.parametrize("compression", [1, 5, 8, 32946, 32773])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_what_opencv_writes_is_read(dtype, compression):
    values = some_values((H, W, 3), dtype)
    content = cv2.imencode(".tiff", values, [cv2.IMWRITE_TIFF_COMPRESSION, compression])[1]
    np.testing.assert_array_equal(read_tiff(content).values, values[:, :, ::-1])


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "packbits", "tiff_adobe_deflate"])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "F"])
def test_what_pillow_writes_means_the_same_here(mode, compression):
    stream = io.BytesIO()
    Image.fromarray(some_values((H, W, 3))).convert(mode).save(stream, "TIFF", compression=compression)
    picture, theirs = read_tiff(stream.getvalue()), Image.open(stream)
    theirs = np.asarray(theirs.convert({"1": "L", "P": "RGB", "CMYK": "RGB"}.get(mode, mode)))
    assert picture.kind == ("rgb" if mode in ("P", "RGB", "RGBA", "CMYK") else "grey")
    assert picture.alpha == (mode in ("LA", "RGBA"))
    np.testing.assert_array_equal(picture.values, theirs.reshape(picture.values.shape))


@pytest.mark.parametrize(("bits", "factor"), [(1, 255), (2, 85), (4, 17), (12, 1)])
@pytest.mark.parametrize("width", [8, 13])
def test_few_bits_are_spread_over_a_byte_and_twelve_are_as_written(bits, factor, width):
    values = np.random.default_rng(0).integers(0, 2**bits, (9, width)).astype("uint16" if bits > 8 else "uint8")
    stored = values.astype(bool) if bits == 1 else values
    plain = grey(written(stored, bitspersample=bits, photometric="minisblack"))
    assert plain.dtype == values.dtype
    np.testing.assert_array_equal(plain, values * factor)
    inverted = grey(written(stored, bitspersample=bits, photometric="miniswhite"))
    np.testing.assert_array_equal(inverted, (2**bits - 1 - values) * factor)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_where_white_is_zero_values_are_inverted(dtype):
    values = some_values((H, W), dtype)
    np.testing.assert_array_equal(grey(written(values, photometric="miniswhite")), np.iinfo(dtype).max - values)


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_where_white_is_zero_there_is_no_inverse_of_signed_numbers(dtype):
    assert "PhotometricInterpretation 0" in refusal(written(some_values((H, W), dtype), photometric="miniswhite"))


@pytest.mark.parametrize("most", [255, 65535])
def test_a_palette_is_looked_up_be_it_of_8_bits_or_16(most):
    table = np.random.default_rng(0).integers(0, most, (3, 256), dtype=np.uint16, endpoint=True)
    values = some_values((H, W))
    picture = read_tiff(written(values, photometric="palette", colormap=table))
    assert picture.kind == "rgb"
    expected = (table >> 8 if most > 255 else table).T[values]
    np.testing.assert_array_equal(picture.values, expected)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_inks_become_colours(dtype):
    values, most = some_values((H, W, 4), dtype), np.iinfo(dtype).max
    picture = read_tiff(written(values, photometric="separated"))
    light = (most - values.astype(float)) / most
    assert picture.kind == "rgb"
    assert picture.values.dtype == values.dtype
    np.testing.assert_array_equal(picture.values, np.floor(light[:, :, :3] * light[:, :, 3:] * most + 0.5))


@pytest.mark.parametrize(
    ("photometric", "samples", "extra", "kind", "alpha"),
    [
        ("minisblack", 2, ["unassalpha"], "grey", True),
        ("minisblack", 2, ["assocalpha"], "grey", True),
        ("minisblack", 2, ["unspecified"], "channels", False),
        ("minisblack", 5, ["unspecified"] * 4, "channels", False),
        ("minisblack", 5, ["unspecified"] * 3 + ["unassalpha"], "channels", True),
        ("rgb", 4, ["unassalpha"], "rgb", True),
        ("rgb", 4, ["unspecified"], "channels", False),
        ("separated", 5, ["unassalpha"], "rgb", True),
    ],
)
def test_further_samples_are_transparency_or_channels(photometric, samples, extra, kind, alpha):
    values = some_values((H, W, samples))
    picture = read_tiff(written(values, photometric=photometric, extrasamples=extra, planarconfig="contig"))
    assert (picture.kind, picture.alpha) == (kind, alpha)
    np.testing.assert_array_equal(picture.values[:, :, -1], values[:, :, -1])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright_as_pillow_does(orientation):
    content = written(some_values((5, 7, 3)), photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(read_tiff(content).values, np.asarray(upright))


@pytest.mark.parametrize("layout", LAYOUTS.values())
@pytest.mark.parametrize("colours", ["grey", "rgb", "ycbcr"])
def test_jpeg_inside_gives_the_pixels_of_pillow(colours, layout):
    layout = {"tile": (32, 32)} if "tile" in layout else layout and {"rowsperstrip": 16}
    values = np.add.outer(np.arange(H) * 3, np.arange(W) * 2).astype(np.uint8)
    if colours == "grey":
        content = written(values, compression="jpeg", **layout)
    else:
        values = np.stack([values, values[::-1], values // 2], axis=2)
        space = {"outcolorspace": "rgb"} if colours == "rgb" else {}
        content = written(values, photometric="rgb", compression="jpeg", compressionargs=space, **layout)
    picture, theirs = read_tiff(content), np.asarray(Image.open(io.BytesIO(content)))
    assert picture.kind == ("grey" if colours == "grey" else "rgb")
    np.testing.assert_array_equal(picture.values, theirs.reshape(picture.values.shape))


@pytest.mark.parametrize("compression", ["zstd", "lzma", "webp", "jpeg2000", "png", "jpegxl", "jpegxr"])
def test_rare_compressions_are_read_with_imagecodecs_and_refused_without(compression, monkeypatch):
    values = some_values((H, W, 3))
    lossless = {"lossless": True} if compression in ("webp", "jpegxl") else {}
    content = written(values, photometric="rgb", compression=compression, compressionargs=lossless, rowsperstrip=8)
    np.testing.assert_array_equal(read_tiff(content).values, values)
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    assert install_line("microscopy") in refusal(content)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_plain_compressions_need_neither_imagecodecs_nor_tifffile(compression, monkeypatch):
    values = some_values((H, W))
    content = written(values, compression=compression)
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    np.testing.assert_array_equal(grey(content), values)


@pytest.mark.parametrize(
    ("number", "name"),
    [(2, "CCITTRLE"), (4, "CCITTFAX4"), (6, "OJPEG"), (33003, "APERIO"), (64999, "unknown")],
)
def test_compressions_that_are_not_read_are_named(number, name):
    reason = refusal(with_tag(some_values((H, W)), 259, number))
    assert name in reason
    assert f"({number})" in reason


@pytest.mark.parametrize(
    ("number", "name"), [(4, "mask"), (6, "YCbCr"), (8, "CIELab"), (32803, "CFA"), (32845, "LogLuv"), (77, "unknown")]
)
def test_meanings_that_are_not_read_are_named(number, name):
    reason = refusal(with_tag(some_values((H, W)), 262, number))
    assert name in reason
    assert f"PhotometricInterpretation {number}" in reason


@pytest.mark.parametrize(
    ("dtype", "reason"), [("complex64", "SampleFormat 6"), ("int64", "64 bits"), ("uint64", "64 bits")]
)
def test_depths_that_are_not_read_are_named(dtype, reason):
    assert reason in refusal(written(np.zeros((3, 4), dtype)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_what_is_no_number_is_refused(dtype, value):
    assert "NaN or infinite" in refusal(written(np.array([[1, value]], dtype)))


def test_numbers_too_large_for_32_bits_are_refused():
    assert "do not fit into 32 bits" in refusal(written(np.array([[1.0, 1e300]])))


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, lambda content: np.frombuffer(content, np.uint8)])
def test_content_may_be_bytes_of_any_kind(make):
    values = some_values((H, W))
    np.testing.assert_array_equal(grey(make(written(values))), values)
