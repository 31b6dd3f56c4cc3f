"""The data given to a fit is prepared for training, with all targets encoded once."""

import numpy as np
import pytest

import xpcnn
from tests.data.conftest import picture, save
from tests.models import plain, samples
from xpcnn import data, layers, losses
from xpcnn.model import training_data
from xpcnn.model.objective import Objective


class Counting(losses.CrossEntropy):
    """Notes of how many samples it has encoded the targets."""

    def __init__(self):
        super().__init__()
        self.encoded = []

    def prepare(self, y, *arguments):
        self.encoded.append(len(y))
        return super().prepare(y, *arguments)


def gathered(n=30, loss=None, **arguments):
    model = plain()
    objective = Objective(model.network, loss or model.loss, model.metrics)
    default = {
        "sample_weight": None, "class_weight": None, "validation_split": 0.0, "validation_data": None,
        "seed": 0, "augment": None, "data_format": "channels_first",
    }  # fmt: skip
    return training_data.prepare(objective, *samples(n), **default | arguments)


def test_all_rows_are_trained_on_where_nothing_is_held_out():
    data = gathered(sample_weight=np.full(30, 2.0), class_weight={1: 3})
    x, y = samples(30)
    assert data.samples.rows.tolist() == [*range(30)]
    assert data.held is None
    np.testing.assert_array_equal(data.samples.weights, np.where(y == 1, 6.0, 2.0))
    assert data.arrays.keys() == {"x", "y", "sample weights"}
    np.testing.assert_array_equal(data.arrays["x"], x)


def test_a_split_holds_out_images_with_their_own_weights_alone():
    own = np.arange(30.0)
    data = gathered(sample_weight=own, class_weight={1: 3}, validation_split=0.2)
    x, y = samples(30)
    held = np.setdiff1d(np.arange(30), data.samples.rows)
    assert len(held) == 6
    np.testing.assert_array_equal(data.held.x[:], x[held])
    assert data.held.y.tolist() == y[held].tolist()
    assert data.held.weights.tolist() == held.tolist()
    assert data.arrays.keys() == {"x", "y", "sample weights"}


def test_images_that_are_read_when_they_are_taken_are_held_out_so(tmp_path):
    """A folder may hold more than fits into memory: a fit takes no more of it at once than a batch."""
    taken = []

    class Folder(data.Folder):
        def __getitem__(self, rows):
            images = super().__getitem__(rows)
            taken.append(len(images))
            return images

    for name in ("a", "b"):
        for number in range(10):
            save(tmp_path / name / f"{number}.png", picture(6, 6, 1, seed=number))
    folder = Folder(tmp_path, data.Decoding(6, 6, 1))
    model = xpcnn.Sequential([layers.Flatten(), layers.Dense(2, activation="softmax")], folder.shape[1:], np)
    model.compile()
    objective = Objective(model.network, model.loss, model.metrics)
    found = training_data.prepare(objective, folder, folder.y, None, None, 0.5, None, 0, None, "channels_first")
    assert (len(found.held.x), taken) == (10, [])
    evaluated = model.evaluate(found.held.x, found.held.y, batch_size=4)
    assert taken == [4, 4, 2]
    held = np.setdiff1d(np.arange(20), found.samples.rows)
    assert evaluated == model.evaluate(folder[held], folder.y[held], batch_size=4)


def test_what_is_given_to_validate_with_is_known_by_name():
    data = gathered(validation_data=samples(9, seed=1))
    assert len(data.held.x) == len(data.held.y) == 9
    assert data.arrays.keys() == {"x", "y", "sample weights", "validation x", "validation y"}


@pytest.mark.parametrize(
    ("arguments", "encoded"),
    [
        ({}, [30]),
        ({"validation_split": 0.2, "sample_weight": np.ones(30)}, [30]),
        ({"validation_data": samples(9)}, [30, 9]),
    ],
)
def test_targets_are_encoded_once(arguments, encoded):
    loss = Counting()
    gathered(loss=loss, **arguments)
    assert loss.encoded == encoded


@pytest.mark.parametrize("part", ["train", "held"])
def test_a_part_in_which_nothing_weighs_is_refused(part):
    trained = gathered(validation_split=0.2).samples.rows
    weights = np.zeros(30) if part == "train" else np.ones(30)
    weights[np.setdiff1d(np.arange(30), trained)] = part == "train"
    with pytest.raises(ValueError, match="All sample weights are 0"):
        gathered(validation_split=0.2, sample_weight=weights)


def test_a_class_that_weighs_nothing_in_the_loss_counts_as_well():
    loss = losses.CrossEntropy(class_weights=(1, 0, 0))
    x, _ = samples(4)
    model = plain()
    model.compile(loss=loss)
    with pytest.raises(ValueError, match="All sample weights are 0"):
        model.fit(x, [0, 1, 1, 2], sample_weight=[0, 1, 1, 1], verbose=0)


def test_a_fit_is_told_its_augmentation_by_name_or_itself():
    def own(x, seed, epoch, rows):
        return x

    assert gathered(augment=own).samples.augment is own
    assert callable(gathered(augment="shift").samples.augment)
    with pytest.raises(ValueError, match="no augmentation 'heavy'"):
        gathered(augment="heavy")


def test_pairs_are_taken_apart():
    x, y = samples(6)
    assert len(plain().fit(zip(x, y, strict=True), batch_size=3, verbose=0).steps) == 2
