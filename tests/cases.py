"""The saved PyTorch cases in ``tests/fixtures`` (made by ``make_fixtures.py`` there), for parametrised tests.

``@pytest.mark.parametrize("case", cases.load("convolution"), ids=str)``
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "fixtures"


@dataclass(frozen=True, eq=False, repr=False)
class Case:
    """One case: ``case.x`` is an array (float64, read-only), ``case.geometry["strides"]`` an argument."""

    name: str
    geometry: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def __getattr__(self, name):
        try:
            return vars(self)["arrays"][name]
        except KeyError:
            raise AttributeError(f"The case {vars(self).get('name')!r} has no array {name!r}.") from None

    def group(self, name):
        """Return the arrays saved as ``name/…``, in the order of the network's layers."""
        return {key.partition("/")[2]: a for key, a in self.arrays.items() if key.startswith(f"{name}/")}

    def __str__(self):
        return self.name

    __repr__ = __str__


@functools.cache
def load(name):
    """Return the cases of ``tests/fixtures/{name}.npz``, in the order they were made."""
    geometries, arrays = {}, {}
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        for key in file.files:
            case, _, what = key.partition("/")
            if what == "geometry":
                geometries[case] = {k: _tuples(v) for k, v in json.loads(str(file[key])).items()}
            else:
                arrays.setdefault(case, {})[what] = array = file[key]
                array.flags.writeable = False
    return [Case(case, geometries[case], arrays[case]) for case in geometries]


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
