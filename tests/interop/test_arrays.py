"""Arrays and tables of other libraries are accepted as they are."""

import re

import numpy as np
import pytest

from tests.models import bits, plain, samples
from xpcnn import backend


class OnlyDLPack:
    """An array that offers nothing but DLPack."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


def same(x, y):
    """Whether training on these gives what training on NumPy's arrays does."""
    first, other = plain(), plain()
    first.fit(*samples(24), verbose=0)
    other.fit(x, y, verbose=0)
    np.testing.assert_array_equal(other.predict(x), first.predict(samples(24)[0]))
    return bits(first) == bits(other)


def test_dlpack_alone(tally):
    x, y = samples(24)
    with tally.case("arrays"):
        assert same(OnlyDLPack(x), OnlyDLPack(y))


def test_tensors_of_pytorch(tally):
    torch = pytest.importorskip("torch")
    x, y = (torch.from_numpy(array) for array in samples(24))
    kinds = {
        "plain": x,
        "part of a gradient": x.clone().requires_grad_(),
        "not contiguous": x.permute(2, 3, 0, 1).contiguous().permute(2, 3, 0, 1),
        "float64": x.double(),
    }
    for name, given in kinds.items():
        with tally.case("arrays", name):
            assert same(given, y)
    with tally.case("arrays", "bfloat16") as case:
        with pytest.raises(TypeError, match=re.escape("Received: torch.bfloat16. Give arrays of")):
            plain().predict(x.bfloat16())
        case.refused()


def test_a_dataloader_of_pytorch(tally):
    torch = pytest.importorskip("torch")
    x, y = samples(24)
    pairs = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    with tally.case("arrays"):
        first, other = plain(), plain()
        first.fit(x, y, verbose=0)
        other.fit(torch.utils.data.DataLoader(pairs, batch_size=7), verbose=0)
        assert bits(first) == bits(other)


def test_tables_of_pandas(tally):
    pandas = pytest.importorskip("pandas")
    _, y = samples(24)
    table = pandas.DataFrame({"a": [1.5, 2.5], "b": [0, 1]}, index=["x", "y"])
    with tally.case("arrays", "labels"):
        assert same(samples(24)[0], pandas.Series(y, index=range(100, 124)))
    with tally.case("arrays", "table"):
        np.testing.assert_array_equal(backend.host_array(table), [[1.5, 0], [2.5, 1]])
    with tally.case("arrays", "texts") as case:
        with pytest.raises(TypeError, match=r"dtype object, with 'a\.png' as its first value"):
            plain().predict(pandas.DataFrame({"file": ["a.png"], "size": [3]}))
        case.refused()
