import math

import numpy as np

from xpcnn.training.history import History


def test_each_quantity_gets_one_entry_an_epoch():
    history = History()
    assert history.epochs == 0
    history.append({"loss": 2.0, "accuracy": 0.5})
    history.append({"loss": 1.0, "accuracy": 0.75})
    assert history.history == {"loss": [2.0, 1.0], "accuracy": [0.5, 0.75]}
    assert history.epochs == 2
    assert history.steps == []


def test_what_an_epoch_lacks_is_nan_there():
    history = History()
    history.append({"loss": 2.0, "lr": 0.1})
    history.append({"loss": 1.0, "val_loss": 1.5})
    assert math.isnan(history.history["val_loss"][0])
    assert math.isnan(history.history["lr"][1])
    assert history.history["val_loss"][1] == 1.5


def test_arrays_become_lists_that_json_can_hold():
    history = History()
    history.append({"loss": 1.0, "confusion_matrix": np.array([[3, 1], [0, 2]]), "count": np.float32(0.5)})
    assert history.history["confusion_matrix"] == [[[3, 1], [0, 2]]]
    assert type(history.history["count"][0]) is float


def test_it_shows_its_last_epoch():
    history = History()
    history.append({"loss": 2.0})
    history.append({"loss": 0.25})
    assert repr(history) == "History(2 epochs, last: {'loss': 0.25})"
