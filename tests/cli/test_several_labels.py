"""Images that may have several labels: trained, evaluated and predicted by the commands."""

import csv
import json
import shutil

import numpy as np
import pytest

import xpcnn
from tests.cli.conftest import names, rows, same_run, save
from tests.cli.test_resume import interrupted
from xpcnn import data
from xpcnn.cli import main
from xpcnn.metrics import mcnemar
from xpcnn.report.comparison import p_value

LABELS = ("left", "right", "top")
PLACES = {"left": np.s_[:, :6], "right": np.s_[:, 18:], "top": np.s_[:6]}
OPTIONS = [
    "--model", "tiny", "--epochs", "14", "--batch-size", "16", "--lr", "0.02", "--augment", "none", "--gray",
    "--validation-fraction", "0.3",
]  # fmt: skip


def draw(folder, count, seed):
    """Write noise in which the places of an image's labels are brighter; return {name: labels}."""
    rng = np.random.default_rng(seed)
    found = {}
    for number in range(count):
        image = rng.normal(70, 12, (24, 24))
        given = [label for label, share in zip(LABELS, (0.5, 0.4, 0.3), strict=True) if rng.random() < share]
        for label in given:
            image[PLACES[label]] += 90
        save(folder / f"{number}.png", np.clip(image, 0, 255).astype(np.uint8))
        found[f"{number}.png"] = given
    return found


def write(path, headings, lines):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([headings, *lines])
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Pictures, their labels in both forms, others with theirs, and a run that learned the first."""
    place = tmp_path_factory.mktemp("several")
    for name, count, seed in (("known", 120, 0), ("new", 40, 1)):
        found = draw(place / name, count, seed)
        write(place / f"{name}.csv", ["path", "labels"], [(path, ";".join(given)) for path, given in found.items()])
        bits = [(path, *(int(label in given) for label in LABELS)) for path, given in found.items()]
        write(place / f"{name}_bits.csv", ["path", *LABELS], bits)
    train = ["train", place / "known", "--labels", place / "known.csv", *OPTIONS, "--out", place / "run"]
    assert main([*map(str, train)]) == 0
    return place


@pytest.fixture
def model(place):
    return place / "run" / "best.safetensors"


def truth(place, name="new"):
    return {row["path"]: [*filter(None, row["labels"].split(";"))] for row in rows(place / f"{name}.csv")}


def test_a_run_learns_every_label(place):
    metrics = json.loads((place / "run" / "metrics.json").read_text())
    assert metrics["test"]["f1"] > 0.9
    assert metrics["test"]["mean_average_precision"] > 0.95
    assert metrics["test"]["accuracy"] > 0.8
    assert [one["class"] for one in metrics["test"]["classes"]] == [*LABELS]
    assert len(metrics["temperatures"]) == len(metrics["thresholds"]) == 3
    parts = rows(place / "run" / "parts.csv")
    assert {row["class"] for row in parts} >= {"", "left", "left;right"}
    known = truth(place, "known")
    assert all(row["class"] == ";".join(known[row["image"].rsplit("/")[-1]]) for row in parts)


@pytest.mark.slow
def test_both_forms_of_table_give_the_same_run(place, run, here):
    arguments = ["--labels", place / "known_bits.csv", *OPTIONS, "--out", "run"]
    assert run("train", place / "known", *arguments).code == 0
    for name in ("best.safetensors", "parts.csv", "predictions.csv", "metrics.json"):
        assert (here / "run" / name).read_bytes() == (place / "run" / name).read_bytes(), name


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_same_model(place, run, here):
    arguments = ["--labels", place / "known.csv", *OPTIONS, "--out", "run"]
    with interrupted(20):
        assert run("train", place / "known", *arguments).code == 130
    done = run("train", "--resume", "run")
    assert done.code == 0, done.err
    same_run(here / "run", place / "run")


def test_predictions_are_all_labels_above_their_thresholds(place, model, run):
    done = run("predict", model, place / "new", "--format", "jsonl")
    found = [json.loads(line) for line in done.out.splitlines()]
    loaded, known = xpcnn.load(model), truth(place)
    right = 0
    whole = loaded.predict_images([row["path"] for row in found]).probabilities
    for row, probabilities in zip(found, whole, strict=True):
        above = {
            label: p for label, p, t in zip(LABELS, probabilities.tolist(), loaded.thresholds, strict=True) if p > t
        }
        assert {one["label"]: one["probability"] for one in row["labels"]} == above
        assert [one["probability"] for one in row["top"]] == sorted(probabilities.tolist(), reverse=True)
        right += set(above) == set(known[row["path"].rsplit("/")[-1]])
    assert len(found) == 40
    assert right > 32
    assert any(len(row["labels"]) > 1 for row in found)
    assert any(not row["labels"] for row in found)


def test_predictions_in_a_table_and_as_csv(place, model, run, here):
    known = truth(place)
    none, both = (next(path for path, labels in known.items() if len(labels) == count) for count in (0, 2))
    done = run("predict", model, place / "new" / none, place / "new" / both)
    assert f"{none}  no label  (" in done.out
    assert all(f"{label} 0." in done.out.splitlines()[1].partition("(")[0] for label in known[both])
    (here / "broken.png").write_bytes(b"no image")
    done = run("predict", model, place / "new" / both, "broken.png", "--format", "csv", "-o", "found.csv")
    first, second = rows(here / "found.csv")
    assert sorted(first["labels"].split(";")) == sorted(known[both])
    assert [*first] == ["path", "labels", "error", "p:left", "p:right", "p:top"]
    assert (second["labels"], second["p:top"]) == ("", "")
    assert second["error"]
    assert "1 of 2 images could not be read" in done.err


def test_each_label_has_its_own_threshold(place, model, run, here):
    loaded = xpcnn.load(model)
    loaded.thresholds = (0.0, 0.5, 1.0)
    loaded.save(here / "m.safetensors")
    done = run("predict", "m.safetensors", place / "new", "--format", "jsonl")
    given = [{one["label"] for one in json.loads(line)["labels"]} for line in done.out.splitlines()]
    assert all("left" in labels and "top" not in labels for labels in given)
    assert 0 < sum("right" in labels for labels in given) < 40


def test_a_threshold_that_is_given_is_that_of_every_label(place, model, run):
    done = run("predict", model, place / "new" / "0.png", "--threshold", "0", "--format", "jsonl")
    assert len(json.loads(done.out)["labels"]) == 3
    done = run("predict", model, place / "new" / "0.png", "--threshold", "0.9999")
    assert "no label" in done.out


@pytest.mark.parametrize("table", ["new.csv", "new_bits.csv"])
def test_an_evaluation_has_the_figures_of_each_label(place, model, run, table):
    done = run("evaluate", model, place / "new", "--labels", place / table, "--format", "json")
    found = json.loads(done.out)
    loaded, known = xpcnn.load(model), truth(place)
    paths = sorted(known)
    answers = loaded.predict_images([place / "new" / path for path in paths]).labels
    both = [(set(known[path]), set(answer)) for path, answer in zip(paths, answers, strict=True)]
    for label, figures in zip(LABELS, found["classes"], strict=True):
        hits = sum(label in true and label in answer for true, answer in both)
        assert figures["count"] == sum(label in true for true, _ in both)
        assert figures["recall"] == pytest.approx(hits / figures["count"])
        assert figures["precision"] == pytest.approx(hits / sum(label in answer for _, answer in both))
    assert found["accuracy"] == sum(true == answer for true, answer in both) / 40
    assert found["f1"] == pytest.approx(np.mean([one["f1"] for one in found["classes"]]))
    text = run("evaluate", model, place / "new", "--labels", place / table).out
    assert "label  images  threshold  precision  recall      f1  average precision" in text
    assert "macro F1 " in text


def test_a_label_that_no_image_of_an_evaluation_has_counts_as_absent(place, model, run, here):
    lines = [(path, ";".join(given)) for path, given in truth(place).items() if "left" not in given]
    write(here / "some.csv", ["path", "labels"], lines)
    done = run("evaluate", model, place / "new", "--labels", "some.csv", "--format", "json")
    left, right, top = json.loads(done.out)["classes"]
    assert (left["class"], left["count"], left["recall"]) == ("left", 0, None)
    assert right["recall"] > 0.8
    assert top["recall"] > 0.8


def test_the_report_shows_each_label_and_no_confusion(place):
    page = (place / "run" / "report.html").read_text()
    assert "How well each label is recognised" in page
    assert "All labels are right for" in page
    assert "Which classes are confused" not in page


def section(page, title):
    """The section of a page that has this title."""
    (found,) = (one for one in page.split("<section ") if f"<h2>{title}</h2>" in one)
    return found


@pytest.mark.parametrize("data", ["known", "gone"])
def test_the_report_is_written_again_from_the_files(place, run, here, data):
    shutil.copytree(place / "run", here / "run")
    before = (here / "run" / "report.html").read_text()
    if data == "gone":
        for name in ("args.json", "parts.csv"):
            path = here / "run" / name
            path.write_text(path.read_text().replace(str(place / "known"), str(here / "gone")))
    (here / "run" / "report.html").unlink()
    assert run("report", "run").code == 0
    after = (here / "run" / "report.html").read_text()
    if data == "gone":
        assert "The images are no longer in their place" in after
    else:
        for title in ("How well each label is recognised", "Filters", "Images"):
            assert section(after, title) == section(before, title)


def test_the_report_of_a_run_without_held_out_images_shows_the_same_ones_again(place, run, here):
    nothing = ["--validation-fraction", "0", "--test-fraction", "0", "--epochs", "1", "--out", "run"]
    assert run("train", place / "known", "--labels", place / "known.csv", *OPTIONS, *nothing).code == 0
    before = section((here / "run" / "report.html").read_text(), "Filters")
    assert run("report", "run").code == 0
    assert section((here / "run" / "report.html").read_text(), "Filters") == before
    assert "the parts of 8 images" in before


@pytest.fixture(scope="module")
def other(place, tmp_path_factory):
    """A run with fewer epochs, on the same parts."""
    folder = tmp_path_factory.mktemp("other") / "run"
    train = ["train", place / "known", "--labels", place / "known.csv", *OPTIONS, "--epochs", "1", "--out", folder]
    assert main([*map(str, train)]) == 0
    return folder


class TestComparison:
    """Two runs, by macro F1, and by the images whose labels are all right."""

    def test_the_table_has_macro_f1_and_its_range(self, place, other, run, here):
        done = run("compare", place / "run", other)
        assert (done.code, done.err) == (0, "")
        heading, *lines = done.out.splitlines()
        assert " test macro F1 " in heading
        f1 = json.loads((other / "metrics.json").read_text())["test"]["f1"]
        _, found, low, _, high, images = lines[1].split()
        assert (found, images) == (f"{f1:.4f}", "24")
        assert 0 < float(low) < f1 < float(high) <= 1

    def test_images_are_right_if_all_of_their_labels_are(self, place, other, run, here):
        right = [
            {row["image"]: row["class"] == row["predicted"] for row in rows(folder / "predictions.csv")}
            for folder in (place / "run", other)
        ]
        first, second = (sum(a[image] and not b[image] for image in a) for a, b in (right, right[::-1]))
        line = run("compare", place / "run", other).out.splitlines()[3]
        assert (
            f"share 24 test images: {first} have all labels right in the first alone, {second} in the second alone, p "
            f"{p_value(mcnemar(first, second))}: "
        ) in line
        assert first > 0

    def test_the_order_of_the_labels_does_not_matter(self, place, other, run, here):
        shutil.copytree(other, here / "run")
        path = here / "run" / "args.json"
        arguments = json.loads(path.read_text())
        path.write_text(json.dumps(arguments | {"classes": arguments["classes"][::-1]}))
        path = here / "run" / "predictions.csv"
        turned = {name: ";".join(name.split(";")[::-1]) for name in {row["class"] for row in rows(path)}}
        lines = [
            (row["image"], turned[row["class"]], ";".join(row["predicted"].split(";")[::-1]), "", row["digest"])
            for row in rows(path)
        ]
        write(path, ["image", "class", "predicted", "probability", "digest"], lines)
        _, *expected = run("compare", place / "run", other).out.splitlines()
        _, *found = run("compare", place / "run", "run").out.splitlines()
        assert found[1].split()[1:] == expected[1].split()[1:]
        assert found[2].partition(" share ")[2] == expected[2].partition(" share ")[2]

    def test_the_page_has_a_table_of_labels_and_curves_of_macro_f1(self, place, other, run, here):
        assert run("compare", place / "run", other).code == 0
        page = (here / "comparison.html").read_text()
        assert "Test F1 of each label" in page
        assert "validation macro F1 by epoch" in page
        assert "An image is right if all of its labels are." in page
        table = page.partition("Test F1 of each label")[2].partition("</table>")[0]
        for label, figures in zip(
            LABELS, json.loads((other / "metrics.json").read_text())["test"]["classes"], strict=True
        ):
            assert f">{label}<" in table
            assert f">{figures['f1']:.2f}<" in table

    def test_without_a_mistake_there_is_no_range(self, place, other, run, here):
        shutil.copytree(other, here / "run")
        path = here / "run" / "predictions.csv"
        lines = [(row["image"], row["class"], row["class"], "", row["digest"]) for row in rows(path)]
        write(path, ["image", "class", "predicted", "probability", "digest"], lines)
        assert run("compare", other, "run").out.splitlines()[2].split()[2:] == ["—", "24"]

    def test_a_run_without_a_test_part_has_no_figures(self, place, other, run, here):
        nothing = ["--test-fraction", "0", "--epochs", "1", "--out", "run"]
        assert run("train", place / "known", "--labels", place / "known.csv", *OPTIONS, *nothing).code == 0
        done = run("compare", other, "run")
        assert (done.code, done.err) == (0, "")
        assert done.out.splitlines()[2].split()[1:] == ["—", "—", "0"]
        assert "run has no test predictions to compare: no images were held out." in done.out


def test_a_search_is_judged_by_macro_f1(place, run, here):
    pytest.importorskip("optuna")
    options = [*OPTIONS, "--epochs", "3", "--image-size", "24", "--no-plots", "--minutes", "10"]
    done = run("tune", place / "known", "--labels", place / "known.csv", *options, "--out", "search")
    assert (done.code, done.err.count("xpcnn tune: ")) == (0, 0), done.err
    lines = done.out.splitlines()
    found = {
        int(line.split()[1].strip(":")): float(line.rpartition("macro F1 ")[2])
        for line in lines
        if ": validation macro F1 " in line
    }
    assert sorted(found) == [1, 2, 3, 4]
    (best,) = (here / "search").glob("trial-*")
    number = int(best.name.removeprefix("trial-"))
    assert found[number] == max(found.values())
    with open(best / "history.csv", newline="") as file:
        epochs = [*csv.DictReader(file)]
    kept = min(epochs, key=lambda row: float(row["val_loss"]))
    assert found[number] == pytest.approx(float(kept["val_multilabel_f1"]), abs=5e-5)
    test = json.loads((best / "metrics.json").read_text())["test"]
    assert any(line.startswith(f"test macro F1 {test['f1']:.4f}, mean average precision ") for line in lines)
    page = (here / "search" / "tune.html").read_text()
    assert "validation macro F1 by trial" in page
    assert "whose ranges" not in page
    assert f"<b>{test['f1']:.3f}</b>" in page or f">{test['f1']:.3f}<" in page
    assert "validation accuracy" not in page


def test_a_search_without_a_label_on_any_validation_image_is_refused(place, run, here):
    pytest.importorskip("optuna")
    lines = [(path, ";".join(given), "train" if given else "val") for path, given in truth(place, "known").items()]
    write(here / "parts.csv", ["path", "labels", "part"], lines)
    done = run("tune", place / "known", "--labels", "parts.csv", *OPTIONS, "--minutes", "1", "--out", "search")
    says = "Trials are compared by validation images, and none has any label. Use more images."
    assert (done.code, done.err) == (1, f"xpcnn tune: {says}\n")


def test_the_model_as_onnx_gives_the_same_probabilities(place, model, run, here):
    runtime = pytest.importorskip("onnxruntime")
    assert run("export", model, "m.onnx").code == 0
    session = runtime.InferenceSession(str(here / "m.onnx"))
    loaded = xpcnn.load(model)
    x = data.load(data.from_table(place / "new.csv", place / "new"), loaded.preprocessing.decoding).x
    (found,) = session.run(None, {"images": x.astype(np.float32)})
    np.testing.assert_allclose(found, loaded.predict(loaded.preprocessing.normalize(x)), atol=1e-5)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["thresholds"]) == [*loaded.thresholds]


@pytest.mark.slow
def test_a_model_goes_on_with_more_images(place, model, run, here):
    options = ["--labels", place / "new.csv", "--epochs", "1", "--lr", "1e-9", "--batch-size", "16", "--out", "run"]
    done = run("train", place / "new", *options, "--from", model)
    assert done.code == 0, done.err
    before, after = xpcnn.load(model), xpcnn.load(here / "run" / "last.safetensors")
    assert after.class_names == before.class_names
    for name, weight in after.parameters.items():
        np.testing.assert_allclose(weight, before.parameters[name], atol=1e-5)


@pytest.mark.slow
def test_folds_test_every_image_once(place, run, here):
    short = ["--model", "tiny", "--epochs", "1", "--gray"]
    done = run("train", place / "known", "--labels", place / "known.csv", *short, "--folds", "2", "--out", "run")
    assert done.code == 0, done.err
    found = json.loads((here / "run" / "folds.json").read_text())
    assert (found["folds"], found["images"]) == (2, 120)
    f1s = [json.loads((here / "run" / f"fold-{n}" / "metrics.json").read_text())["test"]["f1"] for n in (1, 2)]
    assert found["mean_f1"] == pytest.approx(np.mean(f1s))
    assert f"mean macro F1 {found['mean_f1']:.4f}; all labels right: mean accuracy" in done.out
    tested = [row["image"] for fold in (1, 2) for row in rows(here / "run" / f"fold-{fold}" / "predictions.csv")]
    assert len(set(tested)) == 120
    together = "run/ensemble.safetensors"
    assert done.out.splitlines()[-1].startswith(f"model: {together}, which averages the probabilities of all folds; ")
    whole, *folds = (xpcnn.load(path) for path in (together, *(f"run/fold-{n}/best.safetensors" for n in (1, 2))))
    assert whole.thresholds == pytest.approx(np.mean([fold.thresholds for fold in folds], axis=0))
    pictures = [place / "new" / f"{number}.png" for number in range(9)]
    found, *each = (one.predict_images(pictures).probabilities for one in (whole, *folds))
    np.testing.assert_allclose(found, np.mean(each, axis=0), atol=1e-5)
    assert run("evaluate", together, place / "new", "--labels", place / "new.csv").code == 0
    done = run("train", place / "new", "--labels", place / "new.csv", "--from", together, "--out", "more")
    assert (done.code, names(here)) == (1, {"run"})
    assert "its labels cannot be calibrated. Start --from another model; of an average of folds" in done.err


class TestRefusals:
    """What these models cannot do is refused in one line."""

    def test_a_page(self, model, refuses):
        refuses("export", model, "page.html", words=["this model gives several labels. Use `xpcnn predict`"])

    def test_folders_of_predictions(self, place, model, refuses):
        refuses("predict", model, place / "new", "--copy-to", "x", words=["--copy-to needs one label an image"])

    def test_a_comparison_with_a_run_of_one_label_each(self, place, trained, refuses):
        told = ["gives an image several labels, and", "gives it one class. Compare runs that both give several"]
        refuses("compare", place / "run", trained, words=told)
        refuses("compare", trained, place / "run", words=told)

    def test_a_prediction_of_an_unknown_label(self, place, other, here, refuses):
        shutil.copytree(other, here / "run")
        path = here / "run" / "predictions.csv"
        path.write_text(path.read_text().replace("left", "lift"))
        refuses(
            "compare", place / "run", "run", words=["predictions.csv' has a class 'lift' that the run doesn't know"]
        )

    def test_a_start_from_a_model_of_another_kind(self, place, model, trained, photos, run):
        labels = ["--labels", place / "known.csv"]
        one = run("train", place / "known", *labels, "--from", trained / "best.safetensors", "--out", "run")
        several = run("train", photos, "--from", model, "--out", "run")
        assert (one.code, several.code) == (1, 1)
        assert "gives an image a class, and these images have several labels. Start --from another" in one.err
        assert "gives several labels" in several.err or "gives an image several labels" in several.err

    @pytest.mark.parametrize(
        ("option", "told"),
        [
            (["--balance"], "--balance is for images of one label each"),
            (["--model", "squeezenet"], "Use another one, such as small"),
        ],
    )
    def test_options_of_one_label_each(self, place, run, here, option, told):
        done = run("train", place / "known", "--labels", place / "known.csv", *option)
        assert done.code == 1
        assert told in done.err
        assert names(here) == set()

    def test_folds_of_a_label_with_fewer_images(self, place, run, here):
        lines = [
            (path, ";".join([*given, *(["rare"] if path == "3.png" else [])])) for path, given in truth(place).items()
        ]
        write(here / "rare.csv", ["path", "labels"], lines)
        done = run("train", place / "new", "--labels", "rare.csv", "--folds", "2", "--out", "run")
        assert done.code == 1
        assert "The label 'rare' has too few images for 2 folds. Received: 1, expected 2 or more." in done.err

    def test_an_evaluation_on_images_of_one_label_each(self, place, model, photos, run, refuses):
        done = run("evaluate", model, "digits")
        assert done.code == 1
        assert "gives an image several labels, and the images of 'digits' have one label each" in done.err

    def test_an_evaluation_of_a_model_of_one_class(self, place, trained, run):
        done = run("evaluate", trained / "best.safetensors", place / "new", "--labels", place / "new.csv")
        assert (done.code, done.err.count("\n")) == (1, 1)

    def test_a_table_without_a_column_for_a_class(self, place, model, run, here):
        lines = [(path, int("left" in given), int("top" in given)) for path, given in truth(place).items()]
        write(here / "some.csv", ["path", "left", "top"], lines)
        done = run("evaluate", model, place / "new", "--labels", "some.csv")
        assert done.code == 1
        assert "has no column for the class 'right' of the model" in done.err
