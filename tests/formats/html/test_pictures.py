"""Pictures in the page are the arrays that xpcnn reads: decoded, oriented, in grey, and of the model's size."""

import base64
import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

import xpcnn
from tests.cli.conftest import picture
from tests.data.readers.files import apng, bmp, chunk, exif, gif, inserted, saved
from tests.data.test_decode import with_orientation
from tests.report.devtools import CHROMIUM
from xpcnn import layers
from xpcnn.data import Decoding, Preprocessing, read_image
from xpcnn.data.decode import read_picture
from xpcnn.data.opencv import load_opencv
from xpcnn.formats import html

cv2 = load_opencv()

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no `chromium` on the PATH")]

NOISE = np.random.default_rng(0).integers(0, 256, (45, 37, 3)).astype(np.uint8)
SMOOTH = cv2.GaussianBlur(NOISE, (0, 0), 3)
GREY = NOISE[:, :, 0]


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    """A browser that shows a page."""
    model = xpcnn.Sequential([layers.Flatten(), layers.Dense(2, activation="softmax")], (1, 4, 4), xp="numpy")
    model.preprocessing = Preprocessing(Decoding(4, 4, 1), (0.0,), (1.0,))
    path = tmp_path_factory.mktemp("page") / "page.html"
    html.export(model, path)
    browser.show(path)
    return browser


def seen(page, content, decoding):
    """What the page makes of a file: uint8 (channels, height, width), or why it makes nothing."""
    about = {name: getattr(decoding, name) for name in ("height", "width", "channels", "resizing")}
    octets = base64.b64encode(content).decode()
    result = page.value(
        f"read(new File([unpackedArray('{octets}', Uint8Array)], 'x')).then(pixels => {{"
        f"const made = decoded(pixels, {json.dumps(about)}); return [made.height, made.width, ...made.data]; }},"
        "error => { if (error instanceof Refusal) return error.message; throw error; })"
    )
    if isinstance(result, str):
        return result
    height, width, *data = result
    return np.array(data, np.uint8).reshape(height, width, -1).transpose(2, 0, 1)


def difference(page, content, decoding):
    found, expected = seen(page, content, decoding), read_image(content, decoding)
    assert not isinstance(found, str), found
    assert found.shape == expected.shape
    return np.abs(found.astype(int) - expected)


def transparent(mode):
    """Random pixels, half of them fully transparent."""
    alpha = np.where(np.random.default_rng(1).random((45, 37)) < 0.5, 0, 200).astype(np.uint8)
    layer = [NOISE] if mode == "RGBA" else [GREY[:, :, None]]
    return np.concatenate([*layer, alpha[:, :, None]], axis=2)


def of_pillow(image, mode, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(image).convert(mode).save(file, kind, **options)
    return file.getvalue()


def with_profile():
    """A JPEG whose profile swaps red and green, had it any say."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    at = [profile.index(name) + 4 for name in (b"rXYZ", b"gXYZ")]
    offsets = [profile[place : place + 4] for place in at]
    swapped = bytearray(profile)
    swapped[at[0] : at[0] + 4], swapped[at[1] : at[1] + 4] = offsets[1], offsets[0]
    return saved(SMOOTH, "JPEG", quality=95, subsampling=0, icc_profile=bytes(swapped))


def interlaced(image):
    """A PNG in the seven passes of Adam7."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    lines = (row for top, left, down, across in passes for row in image[top::down, left::across])
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in lines if row.size))
    header = struct.pack(">IIBBBBB", image.shape[1], image.shape[0], 8, 2, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


#: Files, and how much the decoders may differ, on average over all values.
FILES = {
    "a PNG": (lambda: saved(NOISE, "PNG"), 0),
    "a grey PNG": (lambda: saved(GREY, "PNG"), 0),
    "every filter": (lambda: saved(picture("left", 45, 37, True, 0), "PNG", optimize=True), 0),
    "transparent colours": (lambda: saved(transparent("RGBA"), "PNG"), 0),
    "transparent grey": (lambda: of_pillow(transparent("LA"), "LA"), 0),
    "a palette": (lambda: of_pillow(SMOOTH, "P"), 0),
    "a transparent palette": (lambda: of_pillow(SMOOTH, "P", transparency=3), 0),
    "sixteen colours": (lambda: saved_palette(16, 4), 0),
    "two colours": (lambda: saved_palette(2, 1), 0),
    "black and white": (lambda: of_pillow(GREY, "1"), 0),
    "interlaced": (lambda: interlaced(NOISE), 0),
    "interlaced and small": (lambda: interlaced(NOISE[:3, :2]), 0),
    "gamma": (lambda: inserted(saved(NOISE, "PNG"), b"IDAT", chunk(b"gAMA", (25000).to_bytes(4))), 0),
    "an animation": (lambda: apng([NOISE, 255 - NOISE]), 0),
    **{
        f"orientation {number}": (
            lambda number=number: inserted(saved(NOISE, "PNG"), b"IDAT", chunk(b"eXIf", exif(number))),
            0,
        )
        for number in range(1, 9)
    },
    "orientation with a prefix": (
        lambda: inserted(saved(NOISE, "PNG"), b"IDAT", chunk(b"eXIf", b"Exif\0\0" + exif(6, ">"))),
        0,
    ),
    "a JPEG": (lambda: saved(SMOOTH, "JPEG", quality=90), 0.2),
    "a grey JPEG": (lambda: saved(SMOOTH[:, :, 0], "JPEG", quality=90), 0.2),
    "a progressive JPEG": (lambda: saved(SMOOTH, "JPEG", quality=90, progressive=True), 0.2),
    "a turned JPEG": (lambda: with_orientation(saved(SMOOTH, "JPEG", quality=90), 6), 0.2),
    "a profile": (with_profile, 0.2),
    "a WebP": (lambda: saved(SMOOTH, "WEBP", quality=90), 0.5),
    "a WebP without loss": (lambda: saved(NOISE, "WEBP", lossless=True), 0),
    "a BMP": (lambda: bmp(2, 2, 24, bytes(range(16))), 0),
    "a GIF": (lambda: gif(2, 2, [(0, 0, 2, 2, 2, 0)]), 0),
}


def saved_palette(colours, bits):
    file = io.BytesIO()
    Image.fromarray(SMOOTH).quantize(colours).save(file, "PNG", bits=bits)
    return file.getvalue()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", FILES)
def test_a_file_is_what_xpcnn_reads(page, name, channels):
    make, most = FILES[name]
    content = make()
    height, width = read_size(content)
    assert difference(page, content, Decoding(height, width, channels)).mean() <= most


def read_size(content):
    facts = read_picture(content, Decoding(1, 1, 3)).facts
    return facts.height, facts.width


@pytest.mark.parametrize("resizing", ["stretch", "crop", "pad"])
@pytest.mark.parametrize(
    "size", [(22, 18), (15, 12), (45, 12), (11, 37), (90, 74), (64, 31), (61, 20), (20, 60), (1, 1), (46, 36)]
)
def test_every_size_is_that_of_xpcnn(page, size, resizing):
    """Within one of 256 levels, and nearly always equal."""
    for image in (NOISE, SMOOTH):
        apart = difference(page, saved(image, "PNG"), Decoding(*size, 3, resizing=resizing))
        assert apart.max() <= 1
        assert apart.mean() < 0.02


def test_halves_are_rounded_up_as_opencv_does(page):
    apart = difference(page, saved(NOISE[:44, :36], "PNG"), Decoding(22, 18, 3))
    assert apart.max() == 0


@pytest.mark.parametrize("per_image", [False, True])
def test_normalisation_is_that_of_xpcnn(page, per_image):
    about = Preprocessing(Decoding(45, 37, 3), (90.0, 100.5, 3.25), (50.0, 60.5, 0.25), per_image)
    for image in (NOISE, np.full_like(NOISE, 7)):
        x = about.normalize(image.transpose(2, 0, 1)[np.newaxis])
        pixels = f"{{height: 45, width: 37, channels: 3, data: Uint8ClampedArray.from({image.ravel().tolist()})}}"
        rest = json.dumps({"mean": about.mean, "std": about.std, "perImage": per_image})
        found = page.value(f"[...normalized({pixels}, {rest})]")
        np.testing.assert_allclose(np.reshape(found, x.shape), x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("null", "the browser does not open it when it is dropped: choose it with a button"),
        ("{size: 2 ** 28 + 1}", "it is larger than 256 MiB, the most that this page reads"),
        ("{size: 9, arrayBuffer: () => Promise.reject()}", "the browser cannot open it: it has been moved"),
    ],
)
def test_a_file_that_cannot_be_opened_is_refused(page, file, told):
    assert page.value(f"read({file}).catch(error => error instanceof Refusal && error.message)").startswith(told)


def test_a_browser_that_alters_pixels_is_noticed(page):
    alter = (
        "(() => { const canvas = OffscreenCanvasRenderingContext2D.prototype, get = canvas.getImageData;"
        "canvas.getImageData = function (...place) { const image = get.apply(this, place); image.data[0] ^= 1;"
        "window.restore = () => { canvas.getImageData = get; }; return image; }; })()"
    )
    content = saved(SMOOTH, "JPEG")
    page.value(alter)
    assert "alters the pixels that pages read" in seen(page, content, Decoding(45, 37, 3))
    page.value("window.restore()")
    assert difference(page, content, Decoding(45, 37, 3)).mean() < 0.2
