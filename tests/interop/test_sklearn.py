"""XPCNNClassifier in scikit-learn: its suite of checks, pipelines, searches, cross-validation."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

sklearn = pytest.importorskip("sklearn")

from sklearn import datasets  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import MinMaxScaler  # noqa: E402
from sklearn.utils.estimator_checks import check_estimator  # noqa: E402

import xpcnn  # noqa: E402
from xpcnn import XPCNNClassifier, layers  # noqa: E402

UNEQUAL = "shuffled mini-batches: a sample that stands twice may come in two of them, one of weight 2 comes in one"


def images(n=120, seed=0):
    """Return images of a bright left or right half, uint8 (n, 1, 6, 6), and their names."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    x = rng.integers(0, 120, (n, 1, 6, 6), dtype=np.uint8)
    x[y == 0, :, :, :3] += 100
    x[y == 1, :, :, 3:] += 100
    return x, np.array(["left", "right"])[y]


def quick(**parameters):
    return XPCNNClassifier(**{"model": "tiny", "epochs": 3, "random_state": 0} | parameters)


def probabilities(classifier, x):
    return classifier.predict_proba(x).tobytes()


# What scikit-learn demands


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_the_whole_suite_of_scikit_learn_passes(tally):
    expected = {"check_sample_weight_equivalence_on_dense_data": UNEQUAL}
    results = check_estimator(XPCNNClassifier(), expected_failed_checks=expected, on_fail=None, on_skip=None)
    for result in results:
        if result["status"] == "skipped":
            assert result["check_name"].startswith("check_array_api")
            continue
        with tally.case("scikit-learn checks", result["check_name"]) as case:
            if result["status"] == "xfail":
                case.refused()
            elif result["exception"] is not None:
                raise result["exception"]
    assert sum(tally.counts.values()) > 50
    assert tally.counts["scikit-learn checks", "refused"] == len(expected)


def test_the_last_bits_of_rows_do_not_depend_on_the_others():
    X, y = datasets.load_iris(return_X_y=True)
    classifier = quick(model="auto").fit(X, y)
    together = classifier.predict_proba(X)
    np.testing.assert_array_equal(classifier.predict_proba(X[::-1])[::-1], together)
    np.testing.assert_array_equal(
        np.concatenate([classifier.predict_proba(row[None]) for row in X[:20]]), together[:20]
    )


# What it reaches


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer"])
def test_features_are_classified_as_they_come(name):
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    assert cross_val_score(XPCNNClassifier(random_state=0), X, y).mean() > 0.9


@pytest.mark.parametrize("scale", [1, 255 / 16])
def test_digits_are_read_whatever_their_range(scale):
    X, y = datasets.load_digits(return_X_y=True)
    parts = train_test_split(X.reshape(-1, 1, 8, 8) * scale, y, stratify=y, random_state=0)
    classifier = XPCNNClassifier(epochs=10, random_state=0).fit(parts[0], parts[2])
    assert classifier.score(parts[1], parts[3]) > 0.97


# With what else scikit-learn has


def test_cross_validation_takes_images():
    x, y = images()
    scores = cross_val_score(quick(epochs=6), x, y, cv=3)
    assert scores.shape == (3,)
    assert scores.mean() > 0.9


def test_a_search_takes_images_and_ends_with_the_best():
    x, y = images()
    search = GridSearchCV(quick(), {"model": ["tiny", "full-batch"], "epochs": [1, 6]}, cv=2, n_jobs=2)
    search.fit(x, y)
    assert search.best_score_ == search.cv_results_["mean_test_score"].max() > 0.8
    assert search.predict(x[:3]).tolist() == search.best_estimator_.predict(x[:3]).tolist()


def test_a_pipeline_hands_it_rows():
    X, y = datasets.load_wine(return_X_y=True)
    pipeline = make_pipeline(MinMaxScaler(), XPCNNClassifier(random_state=0))
    assert pipeline.fit(X, y).score(X, y) > 0.95
    search = GridSearchCV(pipeline, {"xpcnnclassifier__epochs": [1, 2]}, cv=2).fit(X, y)
    assert search.best_params_["xpcnnclassifier__epochs"] in (1, 2)


def test_a_clone_is_not_fitted_and_has_the_same_parameters():
    x, y = images()
    fitted = quick(class_weight={"left": 2.0}, augment="shift").fit(x, y)
    other = clone(fitted)
    assert other.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError, match="not fitted yet"):
        other.predict(x)
    assert probabilities(other.fit(x, y), x) == probabilities(fitted, x)


@pytest.mark.parametrize("copied", [lambda c: pickle.loads(pickle.dumps(c)), copy.deepcopy], ids=["pickle", "deepcopy"])
def test_a_copy_predicts_the_same_bits_and_goes_on_alike(copied):
    x, y = images()
    fitted = quick(warm_start=True).fit(x, y)
    other = copied(fitted)
    assert probabilities(other, x) == probabilities(fitted, x)
    for go_on in ("partial_fit", "partial_fit", "fit"):
        for classifier in (fitted, other):
            getattr(classifier, go_on)(x, y)
        assert probabilities(other, x) == probabilities(fitted, x)


def test_frames_keep_their_names():
    pandas = pytest.importorskip("pandas")
    X, y = datasets.load_iris(return_X_y=True, as_frame=True)
    classifier = quick(model="auto").fit(X, y)
    assert classifier.feature_names_in_.tolist() == X.columns.tolist()
    with pytest.raises(ValueError, match="feature names should match"):
        classifier.predict(pandas.DataFrame(X.to_numpy(), columns=list("abcd")))


# Training


def test_labels_of_any_kind_come_back():
    x, y = images()
    for labels in (y, np.where(y == "left", -7, 3), y.astype(object), y == "left", np.where(y == "left", 0.0, 1.0)):
        classifier = quick(epochs=8).fit(x, labels)
        assert classifier.classes_.tolist() == sorted(set(labels.tolist()))
        predicted = classifier.predict(x)
        assert predicted.dtype == labels.dtype
        assert (predicted == labels).mean() > 0.95


def test_a_random_state_gives_the_same_run():
    x, y = images()
    same = [probabilities(quick(random_state=state).fit(x, y), x) for state in (5, 5, 6)]
    assert same[0] == same[1] != same[2]
    drawn = [
        probabilities(classifier.fit(x, y), x)
        for classifier in [quick(random_state=np.random.RandomState(0))]
        for _ in range(2)
    ]
    assert drawn[0] != drawn[1]


def test_threads_leave_every_bit():
    x, y = images()
    assert len({probabilities(quick(threads=threads).fit(x, y), x) for threads in (None, 1, 3)}) == 1


def test_what_was_fitted_can_be_read():
    x, y = images()
    classifier = quick(validation_fraction=0.25).fit(x, y)
    assert isinstance(classifier.model_, xpcnn.Sequential)
    assert classifier.model_.temperature != 1
    assert (classifier.n_features_in_, classifier.n_iter_) == (1, 3)
    assert [len(classifier.history_[name]) for name in ("loss", "accuracy", "val_loss", "val_accuracy")] == [3] * 4
    standardized = classifier.standardization_(x)
    assert classifier.model_.predict(standardized).tobytes() == probabilities(classifier, x)


def test_a_model_is_a_function_of_shape_and_classes_too():
    asked = []

    def model(shape, classes):
        asked.append((shape, classes))
        return [layers.Flatten(), layers.Dense(classes, activation="softmax")]

    x, y = images()
    quick(model=model).fit(x, y)
    quick(model=model).fit(x.reshape(len(x), -1), y)
    assert asked == [((1, 6, 6), 2), ((1, 1, 36), 2)]


def test_a_model_of_other_classes_is_refused():
    x, y = images()
    model = [layers.Flatten(), layers.Dense(5, activation="softmax")]
    with pytest.raises(ValueError, match=r"one output for each of the 2 classes. Received: outputs \(5,\)"):
        quick(model=lambda shape, classes: model).fit(x, y)


def test_images_with_the_channels_last_are_warned_of():
    x = np.zeros((8, 8, 10, 3), np.uint8)
    with pytest.warns(UserWarning, match=r"8 channels of 10x3 pixels.* x.transpose\(0, 3, 1, 2\)"):
        quick(epochs=1).fit(x, np.arange(8) % 2)


def test_masked_values_are_refused():
    X, y = datasets.load_iris(return_X_y=True)
    masked, labels = np.ma.array(X, mask=X > 5), np.ma.array(y, mask=y == 1)
    for samples in ((masked, y), (X, labels), (X, y, np.ma.array(np.ones(len(y)), mask=y == 1))):
        with pytest.raises(ValueError, match="are masked, and masks are not used"):
            quick(epochs=1).fit(*samples)
    with pytest.raises(ValueError, match="are masked"):
        quick(epochs=1).fit(X, y).predict(masked)


@pytest.mark.parametrize("model", ["small", "tiny"])
def test_convolutions_take_rows_too(model):
    X, y = datasets.load_iris(return_X_y=True)
    assert quick(model=model, epochs=10).fit(X, y).predict(X).shape == y.shape


def test_early_stopping_ends_with_the_best_epoch():
    x, y = images()
    rng = np.random.default_rng(0)
    classifier = quick(epochs=60, patience=2, validation_fraction=0.3).fit(x, rng.permutation(y))
    losses = classifier.history_["val_loss"]
    assert len(losses) == classifier.n_iter_ == int(np.argmin(losses)) + 3 < 60


def test_few_samples_are_trained_on_for_more_epochs_unless_a_number_is_given():
    x, y = images(60)
    assert quick(epochs=None, batch_size=8).fit(x, y).n_iter_ == 480 // 8
    assert quick(epochs=None, batch_size=8, validation_fraction=0.2).fit(x, y).n_iter_ == 480 // 6
    assert quick(epochs=2, batch_size=8).fit(x, y).n_iter_ == 2


def test_warm_start_goes_on_and_its_absence_begins_anew():
    x, y = images()
    classifier = quick(warm_start=True, epochs=2).fit(x, y)
    first = classifier.model_
    classifier.fit(x, y)
    assert classifier.model_ is first
    assert classifier.n_iter_ == 4
    assert classifier.set_params(warm_start=False).fit(x, y).n_iter_ == 2
    assert classifier.model_ is not first
    assert probabilities(classifier, x) == probabilities(quick(epochs=2).fit(x, y), x)


def test_batches_that_come_one_after_another_are_learnt():
    x, y = images(200)
    classifier = quick()
    for epoch in range(6):
        for start in range(0, 200, 50):
            rows = slice(start, start + 50)
            classifier.partial_fit(x[rows], y[rows], classes=["right", "left"] if epoch == start == 0 else None)
    assert classifier.n_iter_ == 24
    assert classifier.classes_.tolist() == ["left", "right"]
    assert classifier.score(x, y) > 0.95
    before = probabilities(classifier, x)
    classifier.partial_fit(x[y == "left"], y[y == "left"])  # one class alone, once the others are known
    assert probabilities(classifier, x) != before


def test_after_a_fit_partial_fit_still_learns():
    x, y = images()
    classifier = quick().fit(x, y)
    turned = np.where(y == "left", "right", "left")
    for _ in range(20):
        classifier.partial_fit(x, turned)
    assert classifier.score(x, turned) > 0.9


def test_classes_are_weighed_by_their_labels():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 2)), rng.choice(["common", "rare"], 300, p=[0.9, 0.1])
    found = {
        name: (quick(model="auto", epochs=5, class_weight=weight).fit(X, y).predict(X) == "rare").mean()
        for name, weight in {"none": None, "balanced": "balanced", "rare": {"rare": 1e3}, "common": {"rare": 0}}.items()
    }
    assert found["common"] == 0
    assert found["none"] < 0.2 < found["balanced"] < found["rare"]


def test_heavy_samples_are_learnt_in_place_of_others():
    x, y = images()
    turned = np.where(y == "left", "right", "left")
    both, labels = np.concatenate([x, x]), np.concatenate([y, turned])
    classifier = quick(epochs=8).fit(both, labels, sample_weight=np.repeat([1.0, 50.0], len(x)))
    assert classifier.score(x, turned) > 0.9


def test_a_sample_of_weight_0_is_as_good_as_absent():
    x, y = images()
    weights = np.arange(len(y)) % 3 != 0
    weighed = quick().fit(x, y, sample_weight=weights.astype(float))
    assert probabilities(weighed, x) == probabilities(quick().fit(x[weights], y[weights], np.ones(weights.sum())), x)


def test_augmentation_changes_the_training_alone():
    x, y = images()
    plain, shifted = quick().fit(x, y), quick(augment="shift").fit(x, y)
    assert probabilities(plain, x) != probabilities(shifted, x)
    assert probabilities(shifted, x) == probabilities(shifted, x)


def test_verbose_prints_epochs_and_the_default_nothing(capsys):
    x, y = images()
    quick().fit(x, y)
    assert capsys.readouterr().out == ""
    quick(verbose=1).fit(x, y)
    assert capsys.readouterr().out.count("epoch") == 3


# What is refused


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"model": "vgg"}, "There is no preset 'vgg'"),
        ({"model": ["small"]}, r"There is no preset \['small'\]"),
        ({"epochs": 0}, "epochs must be a whole number, at least 1. Received: 0"),
        ({"batch_size": 1.5}, "batch_size must be a whole number"),
        ({"learning_rate": -1}, "must be a number"),
        ({"augment": "blur"}, "There is no augmentation 'blur'"),
        ({"class_weight": "fair"}, "class_weight"),
        ({"class_weight": {"up": 1}}, "class_weight"),
        ({"validation_fraction": 1.0}, "fraction must be from 0 to below 1"),
        ({"patience": 3}, "Set validation_fraction, for instance to 0.1"),
        ({"random_state": "x"}, "random_state|seed"),
        ({"threads": 0}, "threads must be a whole number, at least 1"),
        ({"backend": "torch"}, "There is no backend 'torch'"),
    ],
)
def test_parameters_that_do_not_fit_are_refused_in_fit(parameters, message):
    x, y = images(20)
    with pytest.raises((ValueError, xpcnn.backend.BackendError), match=message):
        quick(**parameters).fit(x, y)


def test_arrays_that_do_not_fit_are_refused():
    x, y = images(20)
    with pytest.raises(ValueError, match=r"X\[:, np.newaxis\]"):
        quick().fit(x[:, 0], y)
    with pytest.raises(ValueError, match="Only images can be augmented"):
        quick(augment="shift").fit(x.reshape(20, -1), y)
    with pytest.raises(ValueError, match="Received: one class, \\['left'\\]"):
        quick().fit(x[y == "left"], y[y == "left"])
    with pytest.raises(ValueError, match=r"All sample weights are 0|non-zero"):
        quick().fit(x, y, sample_weight=np.zeros(20))
    classifier = quick().fit(x, y)
    for other in (x[..., :5], x[:, 0, 0, :1]):
        with pytest.raises(ValueError, match=r"was fitted to samples \(n, 1, 6, 6\). Received: an array of shape"):
            classifier.predict(other)
    with pytest.raises(ValueError, match="X has 2 features, but XPCNNClassifier is expecting 1"):
        classifier.predict(np.repeat(x, 2, axis=1))


def test_classes_that_do_not_fit_are_refused():
    x, y = images(20)
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        quick().partial_fit(x, y)
    with pytest.raises(ValueError, match=r"Received other labels: \['right'\]"):
        quick().partial_fit(x, y, classes=["left", "up"])
    with pytest.raises(ValueError, match="cannot balance classes"):
        quick(class_weight="balanced").partial_fit(x, y, classes=["left", "right"])
    classifier = quick(warm_start=True).fit(x, y)
    with pytest.raises(ValueError, match="Use warm_start=False"):
        classifier.fit(x, np.where(y == "left", "up", "down"))
    with pytest.raises(ValueError, match="The classes must stay"):
        classifier.partial_fit(x, y, classes=["left", "up"])


def test_a_training_that_diverges_is_told(recwarn):
    x, y = images()
    with pytest.raises(FloatingPointError, match="not finite"):
        quick(model="full-batch", learning_rate=1e30, epochs=10).fit(x, y)
    assert not [warning for warning in recwarn if issubclass(warning.category, RuntimeWarning)]


def test_another_process_reads_what_was_pickled(tmp_path):
    x, y = images()
    classifier = quick().fit(x, y)
    (tmp_path / "classifier").write_bytes(pickle.dumps((classifier, x)))
    code = "import pickle, sys; c, x = pickle.load(open(sys.argv[1], 'rb')); print(c.predict_proba(x).tobytes().hex())"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "classifier"], capture_output=True, text=True)
    assert done.stdout.strip() == probabilities(classifier, x).hex(), done.stderr


def test_several_labels_a_sample_are_refused_in_one_line():
    x, y = np.zeros((4, 3)), np.array([[1, 0], [1, 1], [0, 0], [0, 1]])
    with pytest.raises(ValueError, match=r"^y should be a 1d array") as caught:
        xpcnn.XPCNNClassifier().fit(x, y)
    assert "\n" not in str(caught.value)
