"""Images and entry points that once gave a wrong answer silently: each gives the right one, or says why it cannot."""

import io
import json
import os
import sys
import unicodedata

import cv2
import numpy as np
import pytest
import tifffile

import xpcnn
from tests.data.conftest import save
from tests.data.readers.files import apng, bmp, chunk, inserted, saved, webp_with_exif
from tests.data.readers.files import exif as exif_block
from xpcnn import data, layers
from xpcnn.cli import main
from xpcnn.data import Decoding, UndecodableImage, read_image
from xpcnn.extras import install_line

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
SMOOTH = cv2.resize(COLOURS, (64, 64))
GREY = COLOURS[:, :, 0].copy()


def tiff(values, **options):
    """A TIFF file as tifffile writes it."""
    file = io.BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


def with_tag(content, tag, value):
    """A TIFF file whose tag, a number of 16 bits, says something else."""
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        place = file.pages[0].tags[tag].valueoffset
    return content[:place] + value.to_bytes(2, "little") + content[place + 2 :]


def decoded(content, channels=3, **options):
    """A picture of its own size as (height, width, channels)."""
    try:
        height, width = options.pop("size", COLOURS.shape[:2])
        return read_image(content, Decoding(height, width, channels, **options)).transpose(1, 2, 0)
    except UndecodableImage as refusal:
        return refusal.reason


def damaged(content):
    """A file with eight other bytes in its middle."""
    middle = len(content) // 2
    return content[:middle] + bytes(byte ^ 0x5A for byte in content[middle : middle + 8]) + content[middle + 8 :]


def planar(samples):
    values = np.random.default_rng(1).integers(0, 65536, (samples, 6, 8), dtype=np.uint16)
    extra = {"extrasamples": ["unassalpha"]} if samples == 4 else {}
    return tiff(values, photometric="rgb", planarconfig="separate", **extra), values[:3].transpose(1, 2, 0)


# Right


def sixteen_bits_by_planes():
    content, values = planar(3)
    return decoded(content), np.round(values / 257)


def sixteen_bits_by_planes_with_transparency():
    content, values = planar(4)
    return decoded(content), np.round(values / 257)


def grey_of_a_png_with_gamma():
    red = np.full((6, 8, 3), (255, 0, 0), np.uint8)
    png = inserted(saved(red, "png"), b"IDAT", chunk(b"gAMA", (45455).to_bytes(4, "big")))
    return decoded(png, 1), np.full((6, 8, 1), 76)


def grey_of_a_png_with_srgb():
    red = np.full((6, 8, 3), (255, 0, 0), np.uint8)
    return decoded(inserted(saved(red, "png"), b"IDAT", chunk(b"sRGB", b"\0")), 1), np.full((6, 8, 1), 76)


def grey_of_a_bmp():
    return decoded(saved(COLOURS, "bmp"), 1), decoded(saved(COLOURS, "png"), 1)


def grey_of_a_tiff():
    return decoded(tiff(COLOURS, photometric="rgb"), 1), decoded(saved(COLOURS, "png"), 1)


def twelve_bits_in_sixteen():
    values = (np.arange(48).reshape(6, 8) * 85).astype(np.uint16)
    return decoded(tiff(values), 1, range=(0, 3995)), np.round(values * (255 / 3995))[:, :, None]


def masks_of_0_and_1():
    mask = (GREY > 127).astype(np.uint16)
    return decoded(tiff(mask), 1, range=(0, 1)), mask[:, :, None] * 255


def floats():
    values = GREY.astype(np.float32) / 255
    return decoded(tiff(values), 1, range=(0, 1)), GREY[:, :, None]


def whole_numbers_of_32_bits():
    return decoded(tiff(GREY.astype(np.int32) * 1000), 1, range=(0, 255000)), GREY[:, :, None]


def negative_numbers():
    return decoded(tiff(GREY.astype(np.int16) - 100), 1, range=(-100, 155)), GREY[:, :, None]


def a_webp_whose_exif_begins_with_its_name():
    content = webp_with_exif(COLOURS, b"Exif\0\0" + exif_block(6))
    return decoded(content, size=(8, 6)), np.rot90(COLOURS, -1)


def white_is_zero_in_16_bits():
    values = np.arange(48, dtype=np.uint16).reshape(6, 8) * 1300
    return decoded(tiff(values, photometric="miniswhite"), 1), np.round((65535 - values) / 257)[:, :, None]


def white_is_zero_in_8_bits():
    return decoded(tiff(GREY, photometric="miniswhite"), 1), 255 - GREY[:, :, None]


def a_bmp_with_its_own_masks():
    rgba = np.dstack([COLOURS, np.full((6, 8), 255, np.uint8)])
    masks = (0xFF, 0xFF00, 0xFF0000)  # red in the lowest byte
    return decoded(bmp(8, 6, 32, rgba[::-1].tobytes(), compression=3, masks=masks)), COLOURS


def an_apng_whose_default_image_is_no_frame():
    return decoded(apng([255 - COLOURS, COLOURS // 2], default=COLOURS)), COLOURS


def channels_beyond_the_first():
    values = np.random.default_rng(2).integers(0, 256, (5, 6, 8), dtype=np.uint8)
    content = tiff(values, imagej=True, metadata={"axes": "CYX"})
    return decoded(content, 5, as_channels=True), values.transpose(1, 2, 0)


def a_further_page():
    values = np.random.default_rng(2).integers(0, 256, (5, 6, 8), dtype=np.uint8)
    return decoded(tiff(values, imagej=True, metadata={"axes": "ZYX"}), 1, page=3), values[3][:, :, None]


def the_maximum_of_pages():
    values = np.random.default_rng(2).integers(0, 256, (5, 6, 8), dtype=np.uint8)
    return decoded(tiff(values, imagej=True, metadata={"axes": "ZYX"}), 1, page="max"), values.max(0)[:, :, None]


def inks_of_16_bits():
    inks = np.zeros((6, 8, 4), np.uint16)
    inks[:, :, 1:3] = 65535  # magenta and yellow: red
    return decoded(tiff(inks, photometric="separated")), np.full((6, 8, 3), (255, 0, 0))


def grey_floats_in_colour():
    return decoded(tiff(GREY.astype(np.float32)), range=(0, 255)), GREY[:, :, None].repeat(3, 2)


def grey_of_4_bits():
    packed = (GREY[:, ::2] & 0xF0 | GREY[:, 1::2] >> 4).astype(np.uint8)
    content = tiff(packed, metadata=None)
    for tag, value in ((256, 8), (258, 4)):
        content = with_tag(content, tag, value)
    return decoded(content, 1), ((GREY >> 4) * 17)[:, :, None]


@pytest.mark.parametrize("row", [
    sixteen_bits_by_planes, sixteen_bits_by_planes_with_transparency, grey_of_a_png_with_gamma, grey_of_a_png_with_srgb,
    grey_of_a_bmp, grey_of_a_tiff, twelve_bits_in_sixteen, masks_of_0_and_1, floats, whole_numbers_of_32_bits,
    negative_numbers, a_webp_whose_exif_begins_with_its_name, white_is_zero_in_16_bits, white_is_zero_in_8_bits,
    a_bmp_with_its_own_masks, an_apng_whose_default_image_is_no_frame, channels_beyond_the_first, a_further_page,
    the_maximum_of_pages, inks_of_16_bits, grey_floats_in_colour, grey_of_4_bits,
], ids=lambda row: row.__name__)  # fmt: skip
def test_a_picture_is_read_right_each_time(row):
    for _ in range(2):
        image, expected = row()
        assert not isinstance(image, str), image
        np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("rotation", [1, 2, 3])
def test_an_avif_is_turned_as_it_says(rotation):
    from PIL import Image, features

    if not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    orientation = {1: 8, 2: 3, 3: 6}[rotation]
    block = Image.Exif()
    block[0x112] = orientation
    file = io.BytesIO()
    Image.fromarray(SMOOTH).save(file, "AVIF", quality=100, subsampling="4:4:4", exif=block)
    image = decoded(file.getvalue(), size=(64, 64))
    assert not isinstance(image, str), image
    assert np.abs(image.astype(int) - np.rot90(SMOOTH, rotation)).mean() < 3


# Right with the extra, refused without

RARE = {
    "jpeg2000": (COLOURS, 0), "png": (COLOURS, 0), "zstd": (COLOURS, 0), "webp": (COLOURS, 0), "lerc": (GREY, 0),
    "jpegxl": (COLOURS, 0),
}  # fmt: skip


@pytest.mark.parametrize("compression", RARE)
def test_a_rare_compression_is_read_with_the_extra_and_refused_without(compression, monkeypatch):
    pytest.importorskip("imagecodecs")
    values, tolerance = RARE[compression]
    options = {"compressionargs": {"lossless": True}} if compression in ("webp", "jpegxl") else {}
    content = tiff(values, compression=compression, **options)
    expected = values if values.ndim == 3 else values[:, :, None]
    np.testing.assert_allclose(decoded(content, expected.shape[2]), expected, atol=tolerance)
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    assert install_line("microscopy") in decoded(content, expected.shape[2])


def test_an_unknown_compression_is_refused():
    assert "64999" in decoded(with_tag(tiff(COLOURS, photometric="rgb", compression="zlib"), 259, 64999))


@pytest.mark.parametrize("compression", ["lzw", "zlib"])
def test_damage_in_the_middle_is_refused(compression):
    for seed in range(10):
        values = np.random.default_rng(seed).integers(0, 256, (64, 64), dtype=np.uint8)
        assert "damaged" in decoded(damaged(tiff(values, compression=compression)), 1, size=(64, 64))


def test_colours_of_cielab_are_refused():
    assert "Lab" in decoded(with_tag(tiff(COLOURS, photometric="rgb"), 262, 8))


def test_a_heic_is_read_with_the_extra_and_refused_without(monkeypatch):
    heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    heif.from_bytes("RGB", (64, 64), SMOOTH.tobytes()).save(file, quality=-1)
    image = decoded(file.getvalue(), size=(64, 64))
    assert np.abs(image.astype(int) - SMOOTH).mean() < 6  # its colours are halved in size
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert install_line("microscopy") in decoded(file.getvalue())


# Around pictures


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fill(folder, classes=("dark", "light"), each=6):
    """Pictures of classes that differ in brightness."""
    rng = np.random.default_rng(len(str(folder)))
    for label, name in enumerate(classes):
        for number in range(each):
            noise = rng.normal(60 + 120 * (label % 2), 20, (12, 12))
            save(folder / name / f"{number}.png", np.clip(noise, 0, 255).astype(np.uint8))


@pytest.fixture
def trained(here):
    fill(here / "set")
    assert main(["train", "set", "--epochs", "2", "--model", "tiny", "--batch-size", "4", "--out", "run"]) == 0
    return here / "run" / "best.safetensors"


def command(capsys, *arguments):
    capsys.readouterr()
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err


def test_jfif_is_read_and_files_that_are_passed_over_are_counted(here, capsys):
    fill(here / "set")
    (here / "set" / "dark" / "0.png").rename(here / "set" / "dark" / "0.jfif")
    (here / "set" / "dark" / "raw.czi").touch()
    (here / "set" / "dark" / "nothing").touch()
    code, out, _ = command(capsys, "train", "set", "--epochs", "1", "--model", "tiny", "--out", "run")
    assert code == 0
    assert out.startswith("12 images in 2 classes")
    assert "not images: 1 without extension, 1 .czi" in out


def test_class_names_are_one_in_either_form_of_unicode(here, capsys):
    one, other = (unicodedata.normalize(form, "été") for form in ("NFC", "NFD"))
    fill(here / "set", (one, "hiver"))
    fill(here / "other", (other, "hiver"))
    assert command(capsys, "train", "set", "--epochs", "1", "--model", "tiny", "--out", "run")[0] == 0
    assert command(capsys, "evaluate", "run/best.safetensors", "other")[0] == 0


def test_predict_takes_a_folder_and_a_list(here, trained, capsys):
    (here / "list.txt").write_text("set/dark/0.png\n")
    code, out, _ = command(capsys, "predict", trained, "set/light", "@list.txt", "--format", "jsonl")
    assert (code, len(out.splitlines())) == (0, 7)


def test_labels_come_from_a_table(here, capsys):
    fill(here / "set")
    lines = [
        "path,label",
        *(f"{path.relative_to(here / 'set')},{path.stem in '012'}" for path in (here / "set").rglob("*.png")),
    ]
    (here / "labels.csv").write_text("\n".join(lines))
    options = ["--epochs", "1", "--model", "tiny", "--out", "run"]
    assert command(capsys, "train", "set", "--labels", "labels.csv", *options)[0] == 0
    assert xpcnn.load("run/best.safetensors").class_names == ("False", "True")


@pytest.mark.parametrize("way", ["crop", "pad"])
def test_pictures_need_not_be_stretched(way):
    image = np.zeros((20, 40), np.uint8)
    cv2.circle(image, (20, 10), 8, 255, -1)
    white = read_image(saved(image, "png"), Decoding(20, 20, 1, resizing=way))[0] > 127
    assert abs(white.any(axis=0).sum() - white.any(axis=1).sum()) <= 1


def test_a_picture_in_two_parts_or_of_two_classes_is_named(here, capsys):
    for part in ("train", "test"):
        fill(here / "set" / part)
    picture = (here / "set" / "train" / "dark" / "0.png").read_bytes()
    (here / "set" / "test" / "light" / "copy.png").write_bytes(picture)
    code, _, err = command(capsys, "train", "set", "--epochs", "1", "--model", "tiny", "--out", "run")
    assert code == 0
    assert "1 images in more than one class" in err
    assert "1 images in more than one part, 1 copies left out" in err
    code, _, err = command(capsys, "train", "set", "--strict", "--out", "strict")
    assert (code, err.count("\n")) == (1, 1)


def test_raw_pixels_are_no_input_of_a_model_that_says_how_they_are_normalised(trained):
    model = xpcnn.load(trained)
    with pytest.raises(ValueError, match="predict_images"):
        model.predict(np.zeros((1, *model.network.input_shape), np.uint8))
    with pytest.warns(UserWarning, match="do not look normalised"):
        model.predict(np.random.default_rng(0).random((1, *model.network.input_shape)))


def test_the_figures_of_pictures_that_were_learned_are_told_from_others(here, trained, capsys):
    code, out, err = command(capsys, "evaluate", trained, "set", "--format", "json")
    results, test = json.loads(out), json.loads((here / "run" / "metrics.json").read_text())["test"]
    assert code == 0
    assert "the model was trained or selected with" in err
    assert results["unseen"]["accuracy"] == test["accuracy"]
    assert results["unseen"]["count"] == results["count"] - results["seen"]


def test_an_absent_class_has_no_figures_and_one_class_is_enough(here, trained, capsys):
    fill(here / "one", ("light",))
    results = json.loads(command(capsys, "evaluate", trained, "one", "--format", "json")[1])
    assert [row["recall"] is None for row in results["classes"]] == [True, False]


def compiled():
    model = xpcnn.Sequential([layers.Flatten(), layers.Dense(2, activation="softmax")], input_shape=(1, 2, 2))
    model.compile()
    return model


@pytest.mark.parametrize(
    ("act", "remedy"),
    [
        (lambda model: model.fit(np.zeros((2, 1, 2, 2)), ["cat", "dog"]), "np.unique"),
        (lambda model: model.compile(loss="sparse_categorical_crossentropy"), "cross_entropy"),
        (lambda model: model.fit(np.zeros((2, 1, 2, 2)), [0, 1], class_weight="balanced"), "recipe.balanced"),
        (lambda model: model.save("m.keras"), "safetensors"),
    ],
    ids=["string labels", "a Keras loss", "a Keras class weight", "a Keras file"],
)
def test_names_of_others_get_a_hint(act, remedy):
    with pytest.raises((ValueError, TypeError), match=remedy):
        act(compiled())


def test_a_model_made_of_files_gives_the_bits_of_the_command(here, trained, capsys):
    names = sorted(os.fspath(path) for path in (here / "set").rglob("*.png"))
    rows = json.loads(command(capsys, "predict", trained, *names, "--format", "json")[1])
    found = xpcnn.load(trained).predict_images(names)
    assert [row["probability"] for row in rows] == found.probabilities.max(axis=1).tolist()
    assert isinstance(data.read_image(names[0], Decoding(4, 4, 1)), np.ndarray)
