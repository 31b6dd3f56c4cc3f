"""The page in a real browser: its answers are those of predict_images, and it survives whatever it is given."""

import csv
import io

import numpy as np
import pytest

import xpcnn
from tests.cli.conftest import picture, save
from tests.report.conftest import HOSTILE
from tests.report.devtools import CHROMIUM, CONTRAST
from xpcnn import layers
from xpcnn.cli import main
from xpcnn.data import Decoding, Preprocessing, load_digits
from xpcnn.data.opencv import load_opencv
from xpcnn.formats import html

cv2 = load_opencv()

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no `chromium` on the PATH")]


def made(channels=3, size=(24, 20), names=HOSTILE, resizing="stretch", per_image=False, seed=0):
    """A model that tells pictures apart by much."""
    model = xpcnn.Sequential(
        [
            layers.Conv2D(8, 3, padding="same"),
            layers.BatchNorm(),
            layers.ReLU(),
            layers.MaxPool2D(2),
            layers.Flatten(),
            layers.Dense(len(names), activation="softmax"),
        ],
        (channels, *size),
        xp="numpy",
        seed=seed,
    )
    model.compile()
    model.class_names, model.temperature = tuple(names), 1.5
    decoding = Decoding(*size, channels, resizing=resizing)
    model.preprocessing = Preprocessing(decoding, (90.0,) * channels, (55.0,) * channels, per_image)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures of many kinds: formats, sizes, grey, transparency, palettes."""
    place, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number, (name, height, width, colour) in enumerate(
        [
            ("colour.png", 90, 70, True),
            ("grey.png", 61, 83, False),
            ("colour.jpg", 120, 97, True),
            ("grey.jpg", 64, 64, False),
            ("small.png", 9, 11, True),
            ("wide.png", 10, 300, True),
            ("half.png", 48, 40, True),
            ("exact.bmp", 24, 20, True),
            ("large.jpg", 2300, 2100, True),
            ("lossy.webp", 80, 60, True),
        ]
    ):
        save(place / name, picture(("left", "centre", "right")[number % 3], height, width, colour, number))
    colours = picture("left", 50, 40, True, 20)
    alpha = rng.integers(0, 256, (50, 40, 1)).astype(np.uint8) * (rng.random((50, 40, 1)) < 0.5)
    save(place / "alpha.png", np.concatenate((colours, alpha.astype(np.uint8)), axis=2))
    return place


def answers(browser, page, *paths):
    """Open a page, choose files and return the rows of its table by file name."""
    browser.show(page)
    browser.choose("#files", *paths)
    browser.wait("document.getElementById('bar').hidden && document.querySelectorAll('#list li').length > 0", 120)
    return browser


def table(browser):
    """The rows of the CSV that the page would save."""
    browser.value(
        "(() => { const make = URL.createObjectURL;"
        "URL.createObjectURL = blob => { window.saved = blob; URL.createObjectURL = make; return make(blob); }; })()"
    )
    browser.value("document.getElementById('save').click()")
    return list(csv.DictReader(io.StringIO(browser.value("window.saved.text()"), newline="")))


@pytest.mark.parametrize(
    ("channels", "resizing", "per_image"), [(3, "stretch", False), (1, "crop", True), (3, "pad", False)]
)
def test_its_answers_are_those_of_the_command(browser, folder, tmp_path, channels, resizing, per_image):
    model = made(channels, resizing=resizing, per_image=per_image)
    html.export(model, tmp_path / "cells.html")
    paths = sorted(folder.iterdir())
    answers(browser, tmp_path / "cells.html", *paths)
    rows = table(browser)
    expected = model.predict_images(paths)
    assert [row["path"] for row in rows] == [path.name for path in paths]
    assert [row["error"] for row in rows] == [""] * len(paths)
    found = np.array([[float(row[f"p:{name}"]) for name in HOSTILE] for row in rows])
    assert np.abs(found - expected.probabilities).max() < 0.01
    assert np.ptp(expected.probabilities, axis=0).max() > 0.1
    assert browser.complaints == []
    allowed = ("blob:", "data:", (tmp_path / "cells.html").resolve().as_uri())
    assert [url for url in browser.requests if not url.startswith(allowed)] == []


def test_a_trained_network_gives_the_labels_of_the_command(browser, tmp_path):
    """Two hundred handwritten digits, as small as they are and enlarged, without and with loss."""
    assert main(["train", "digits", "--epochs", "3", "--out", str(tmp_path / "run")]) == 0
    assert main(["export", str(tmp_path / "run" / "best.safetensors"), str(tmp_path / "digits.html")]) == 0
    paths = []
    for number, image in enumerate(load_digits().x[:200, 0]):
        large = cv2.resize(image, (31, 27), interpolation=cv2.INTER_CUBIC)
        paths.append(save(tmp_path / f"{number}.{('png', 'jpg')[number % 2]}", large if number % 3 else image))
    answers(browser, tmp_path / "digits.html", *paths)
    rows = table(browser)
    expected = xpcnn.load(tmp_path / "run" / "best.safetensors").predict_images(paths)
    found = np.array([[float(row[f"p:{name}"]) for name in "0123456789"] for row in rows])
    assert np.abs(found - expected.probabilities).max() < 0.01
    assert sum(row["guess"] == label for row, label in zip(rows, expected.labels, strict=True)) >= 199
    assert len(set(expected.labels)) == 10


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """A page for two classes that are easily told apart from each other: dark and bright."""
    model = xpcnn.Sequential(
        [layers.Conv2D(1, 1), layers.Flatten(), layers.Dense(2, activation="softmax")], (1, 8, 8), xp="numpy"
    )
    values = {name: np.zeros_like(value) for name, value in model.get_weights().items()}
    values["conv2d_1.weight"] += 1
    values["dense_1.weight"][:] = [[-1 / 16], [1 / 16]]
    model.set_weights(values)
    model.class_names = ("dark", "bright")
    model.preprocessing = Preprocessing(Decoding(8, 8, 1), (128.0,), (64.0,))
    path = tmp_path_factory.mktemp("cells") / "cells.html"
    html.export(model, path)
    return path


def plain(path, level, size=(9, 12)):
    return save(path, np.full(size, level, np.uint8))


def shown(browser):
    return browser.value("[...document.querySelectorAll('.answer')].map(e => e.textContent.trim())")


class TestBadInput:
    def refused(self, browser, cells, path):
        """The line that the page shows for a file; the picture after it is answered."""
        good = plain(path.parent / "good.png", 250)
        answers(browser, cells, path, good)
        line, after = shown(browser)
        assert after.startswith("bright")
        assert browser.complaints == []
        return line

    @pytest.mark.parametrize(
        ("name", "content", "told"),
        [
            (
                "notes.txt",
                b"not a picture",
                "it is not a picture that this page knows: use PNG, JPEG, WebP, GIF or BMP",
            ),
            ("empty.png", b"", "it is empty"),
            ("scan.tif", b"II*\0" + bytes(40), "it is a TIFF, which this page does not read: save it as PNG or JPEG"),
            ("phone.heic", bytes(4) + b"ftypheic" + bytes(40), "it is a HEIC, which this page does not read"),
            ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "it is an SVG drawing, which"),
            ("film.mp4", bytes(4) + b"ftypisom" + bytes(40), "it is a video, which"),
            ("broken.webp", b"RIFF\x10\0\0\0WEBPVP8 " + bytes(20), "the browser cannot decode it: it is damaged"),
            ("header.png", b"\x89PNG\r\n\x1a\n" + bytes(60), "it is truncated or damaged"),
            ("header.jpg", b"\xff\xd8\xff\xe0", "it is truncated or damaged"),
        ],
    )
    def test_a_file_that_is_no_picture(self, browser, cells, tmp_path, name, content, told):
        (tmp_path / name).write_bytes(content)
        assert self.refused(browser, cells, tmp_path / name).startswith(f"cannot be read: {told}")

    def test_more_than_eight_bits(self, browser, cells, tmp_path):
        deep = save(tmp_path / "deep.png", np.full((9, 9), 40000, np.uint16))
        assert "16 bits a value" in self.refused(browser, cells, deep)

    @pytest.mark.parametrize("cut", [0.3, 0.99])
    @pytest.mark.parametrize("suffix", [".png", ".jpg"])
    def test_a_truncated_picture(self, browser, cells, tmp_path, suffix, cut):
        path = save(tmp_path / f"cut{suffix}", picture("left", 40, 40, True, 0))
        path.write_bytes(path.read_bytes()[: int(cut * path.stat().st_size)])
        assert self.refused(browser, cells, path) == "cannot be read: it is truncated or damaged"

    @pytest.mark.parametrize("place", [0.5, -13], ids=["of the pixels", "of their checksum"])
    def test_a_flipped_bit(self, browser, cells, tmp_path, place):
        path = save(tmp_path / "flipped.png", picture("left", 40, 40, True, 0))
        content = bytearray(path.read_bytes())
        content[int(place * len(content)) if place > 0 else place] ^= 1
        path.write_bytes(content)
        assert self.refused(browser, cells, path) == "cannot be read: it is truncated or damaged"

    def test_a_picture_too_large_to_hold(self, browser, cells, tmp_path):
        path = save(tmp_path / "huge.png", np.zeros((8193, 8193), np.uint8))
        told = "it has 8193 x 8193 pixels, 67,125,249 in all, and this page reads up to 67,108,864: make it smaller"
        assert self.refused(browser, cells, path) == f"cannot be read: {told}"

    def test_colours_for_printing(self, browser, cells, tmp_path):
        image = pytest.importorskip("PIL.Image")
        image.new("CMYK", (20, 20)).save(tmp_path / "print.jpg")
        assert "CMYK" in self.refused(browser, cells, tmp_path / "print.jpg")

    def test_transparency_that_the_browser_does_not_tell(self, browser, cells, tmp_path):
        path = save(tmp_path / "glass.webp", np.full((9, 9, 4), 100, np.uint8))
        assert "transparent pixels" in self.refused(browser, cells, path)


class TestBadBrowser:
    def run(self, browser, cells, source, *messages):
        """What a worker of this source answers to messages, one after the other."""
        browser.show(cells)
        return browser.value(
            f"(() => {{ const runner = new Runner({source!r}, {{spec: {{}}, weights: '', numbers: ''}});"
            f"return Promise.all({[*messages]!r}.map(file => runner.run({{file}}))); }})()"
        )

    def test_a_worker_that_stops_is_followed_by_another(self, browser, cells):
        source = (
            "onmessage = ({data}) => { if (data.file === 'bad') throw 1; postMessage(data.spec ? {ready: 1} : {}) }"
        )
        stopped = {"error": "the browser stopped reading it, perhaps for lack of memory"}
        assert self.run(browser, cells, source, "good", "bad", "good", "bad") == [{}, stopped, {}, stopped]

    def test_a_worker_that_never_starts_is_told(self, browser, cells):
        first, second = self.run(browser, cells, "throw 1", "one", "two")
        assert first == second
        assert first["error"].startswith("this browser does not let a page from a file compute in the background")

    def test_an_old_browser_is_told(self, browser, cells):
        script = browser.call("Page.addScriptToEvaluateOnNewDocument", source="delete window.OffscreenCanvas")
        browser.show(cells)
        browser.call("Page.removeScriptToEvaluateOnNewDocument", **script)
        assert browser.value("document.getElementById('state').textContent") == (
            "This browser is too old for this page: it lacks OffscreenCanvas. Use a current one."
        )


class TestTable:
    def test_what_is_uncertain_is_marked_and_the_table_says_so(self, browser, cells, tmp_path):
        paths = [plain(tmp_path / f"{level}.png", level) for level in (3, 130, 250)]
        answers(browser, cells, *paths)
        assert shown(browser) == ["dark 1.000", "bright 0.562 uncertain", "bright 1.000"]
        assert browser.value("document.getElementById('state').textContent") == (
            "3 pictures: dark 1, uncertain 1, bright 1."
        )
        assert [(row["label"], row["guess"]) for row in table(browser)] == [
            ("dark", "dark"), ("uncertain", "bright"), ("bright", "bright"),
        ]  # fmt: skip

    def test_the_threshold_can_be_chosen(self, browser, cells, tmp_path):
        answers(browser, cells, plain(tmp_path / "grey.png", 130))
        browser.value(
            "(e => { e.value = '0.5'; e.dispatchEvent(new Event('input')); })(document.getElementById('threshold'))"
        )
        assert shown(browser) == ["bright 0.562"]

    def test_it_is_that_of_the_command(self, browser, cells, tmp_path):
        """The columns of ``xpcnn predict --format csv``."""
        path = plain(tmp_path / 'a, "b".png', 250)
        (tmp_path / "broken.png").write_bytes(b"x")
        answers(browser, cells, path, tmp_path / "broken.png")
        good, bad = table(browser)
        assert [*good] == ["path", "label", "probability", "top", "error", "guess", "p:dark", "p:bright"]
        assert (good["path"], good["label"], good["error"]) == ('a, "b".png', "bright", "")
        assert good["top"].startswith("bright=1.000000;dark=0.0000")
        assert (bad["label"], bad["p:dark"]) == ("", "")
        assert bad["error"].startswith("it is not a picture")

    def test_clearing_starts_anew(self, browser, cells, tmp_path):
        answers(browser, cells, plain(tmp_path / "grey.png", 130))
        browser.value("document.getElementById('clear').click()")
        assert browser.value("document.querySelectorAll('#list li').length") == 0
        assert browser.value("document.getElementById('save').disabled") is True
        browser.choose("#files", plain(tmp_path / "white.png", 255))
        browser.wait("document.querySelectorAll('.answer b').length === 1")
        assert shown(browser) == ["bright 1.000"]


class TestWaysIn:
    def test_a_folder(self, browser, cells, tmp_path):
        plain(tmp_path / "cells" / "a.png", 3)
        plain(tmp_path / "cells" / "inner" / "b.png", 250)
        browser.show(cells)
        browser.choose("#folder", tmp_path / "cells")
        browser.wait("document.querySelectorAll('.answer b').length === 2")
        assert sorted(browser.value("[...document.querySelectorAll('.file')].map(e => e.textContent)")) == [
            "cells/a.png", "cells/inner/b.png",
        ]  # fmt: skip

    def test_a_photo(self, browser, cells, tmp_path):
        browser.show(cells, width=390)
        assert browser.value("document.getElementById('take').checkVisibility()")
        browser.choose("#camera", plain(tmp_path / "photo.jpg", 250))
        browser.wait("document.querySelectorAll('.answer b').length === 1")

    def test_files_and_folders_are_dropped(self, browser, cells, tmp_path):
        plain(tmp_path / "cells" / "inner" / "b.png", 250)
        paths = [str(plain(tmp_path / "a.png", 3)), str(tmp_path / "cells")]
        browser.show(cells)
        for kind in ("dragEnter", "dragOver", "drop"):
            data = {"items": [], "files": paths, "dragOperationsMask": 1}
            browser.call("Input.dispatchDragEvent", type=kind, x=200, y=200, data=data)
        browser.wait("document.querySelectorAll('.answer b').length === 2")
        assert sorted(browser.value("[...document.querySelectorAll('.file')].map(e => e.textContent)")) == [
            "a.png", "cells/inner/b.png",
        ]  # fmt: skip

    def test_two_thousand_at_once(self, browser, cells, tmp_path):
        paths = [plain(tmp_path / f"{number}.png", number % 256) for number in range(2000)]
        answers(browser, cells, *paths)
        assert browser.value("document.querySelectorAll('.answer b').length") == 2000
        assert len(table(browser)) == 2000
        assert browser.complaints == []


class TestEveryone:
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("width", [390, 768, 1440])
    def test_its_text_stands_out_and_fits(self, browser, cells, tmp_path, width, scheme):
        browser.show(cells, width, scheme)
        (tmp_path / "broken.png").write_bytes(b"x")
        browser.choose("#files", plain(tmp_path / f"{'long ' * 20}.png", 130), tmp_path / "broken.png")
        browser.wait("document.querySelectorAll('.failed').length === 1")
        ratio, text = browser.value(CONTRAST)
        assert ratio >= 4.5, text
        assert browser.value("document.documentElement.scrollWidth") <= width

    def test_the_keyboard_alone_is_enough(self, browser, cells, tmp_path):
        answers(browser, cells, plain(tmp_path / "white.png", 255))
        browser.value("document.body.focus()")
        reached = []
        for _ in range(8):
            for kind in ("keyDown", "keyUp"):
                browser.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
            reached.append(browser.value("document.activeElement.id || document.activeElement.textContent"))
            if reached[-1] == "Where it looked":
                break
        assert [one for one in reached if one != "take"] == [
            "choose", "choose-folder", "threshold", "save", "clear", "Where it looked",
        ]  # fmt: skip
        enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        browser.call("Input.dispatchKeyEvent", type="keyDown", **enter)
        browser.wait("document.querySelector('#list canvas') !== null")
        assert browser.value("document.activeElement.getAttribute('aria-pressed')") == "true"

    def test_a_screen_reader_hears_names_and_results(self, browser, cells, tmp_path):
        answers(browser, cells, plain(tmp_path / "white.png", 255))
        browser.value("document.querySelector('#list button').click()")
        browser.wait("document.querySelector('#list canvas') !== null")
        nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
        heard = {
            (node["role"]["value"], node.get("name", {}).get("value", "").strip())
            for node in nodes
            if not node.get("ignored")
        }
        assert {
            ("heading", "cells"),
            ("button", "Choose pictures"),
            ("spinbutton", "Uncertain below the probability"),
            ("image", "Bright where the picture spoke most for bright"),
        } <= heard
        assert all(name for role, name in heard if role in ("button", "spinbutton", "image", "textbox"))
        assert "status" in {role for role, _ in heard}

    def test_the_map_is_hidden_again(self, browser, cells, tmp_path):
        answers(browser, cells, plain(tmp_path / "white.png", 255))
        for hidden in (False, True, False):
            browser.value("document.querySelector('#list button').click()")
            browser.wait("document.querySelector('#list canvas') !== null")
            assert browser.value("document.querySelector('#list canvas').hidden") is hidden


class TestSafety:
    def test_names_of_classes_and_files_are_only_text(self, browser, tmp_path):
        html.export(made(), tmp_path / "<b>page.html")
        path = save(tmp_path / "<img src=x onerror=alert(1)>.png", picture("left", 20, 20, True, 0))
        answers(browser, tmp_path / "<b>page.html", path)
        text = browser.value("document.body.innerText")
        for name in ("<b>page", HOSTILE[0], HOSTILE[1], "<img src=x onerror=alert(1)>.png"):
            assert name in text
        assert browser.value("document.scripts.length") == 2
        assert browser.value("document.querySelectorAll('bdi *').length") == 0
        assert browser.complaints == []

    def test_another_script_or_style_does_not_run(self, browser, cells, tmp_path):
        more = "<main><script>document.title = 'ran'</script><style>main { color: red }</style>"
        (tmp_path / "page.html").write_text(cells.read_text(encoding="utf-8").replace("<main>", more), "utf-8")
        browser.show(tmp_path / "page.html")
        assert browser.value("document.title") == "cells"
        assert str(browser.complaints).count("Content Security Policy") >= 2

    def test_no_request_leaves_the_page(self, browser, cells):
        browser.show(cells)
        tried = "fetch('https://example.org').then(() => 'sent', () => 'refused')"
        assert browser.value(tried) == "refused"
        assert (
            browser.value(
                "new Promise(done => { const image = new Image(); image.onerror = () => done('refused');"
                "image.onload = () => done('sent'); image.src = 'https://example.org/x.png'; })"
            )
            == "refused"
        )
        for directive in ("connect-src", "img-src"):
            assert directive in str(browser.complaints)
