"""What products and convolutions compute in is chosen by name or by the environment, or refused, saying why."""

import numpy as np
import pytest

from tests import strict
from xpcnn import backend, precision
from xpcnn.backend import BackendError, Choice
from xpcnn.precision import in_precision, precision_of, resolve


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    monkeypatch.delenv("XPCNN_PRECISION", raising=False)


@pytest.fixture
def works(monkeypatch):
    """Return a function that lets one array module be what any name means."""
    return lambda xp: monkeypatch.setattr(precision, "choose", lambda name=None: Choice(xp, "it works"))


def test_a_device_gets_another_name_for_the_same_module():
    in_tf32 = in_precision(strict.xp, "tf32")
    assert precision_of(in_tf32) == "tf32"
    assert in_tf32 is in_precision(strict.xp, "tf32"), "kernels are compiled once"
    assert (in_tf32.__name__, in_tf32.ones, in_tf32.cuda) == (strict.xp.__name__, strict.xp.ones, strict.xp.cuda)
    assert precision_of(in_precision(in_tf32, "bfloat16")) == "bfloat16"
    assert in_precision(in_tf32, "float32") is strict.xp
    assert (backend.is_host(in_tf32), backend.kernels(in_tf32)) == (False, None)


def test_by_default_it_is_float32_or_what_the_environment_says(monkeypatch):
    assert in_precision(strict.xp) is strict.xp
    assert in_precision(np) is np
    monkeypatch.setenv("XPCNN_PRECISION", "bfloat16")
    assert precision_of(in_precision(strict.xp)) == "bfloat16"
    assert in_precision(strict.xp, "float32") is strict.xp


def test_a_module_is_resolved_as_it_is_and_a_name_in_the_environments_precision(works, monkeypatch):
    assert resolve("numpy") is np
    works(strict.xp)
    monkeypatch.setenv("XPCNN_PRECISION", "tf32")
    assert precision_of(resolve("cupy")) == "tf32"
    assert precision_of(resolve()) == "tf32"
    assert resolve("cupy", "float32") is strict.xp
    assert resolve(strict.xp) is strict.xp
    assert resolve(np) is np


def test_the_host_computes_in_float32_alone(works, monkeypatch):
    with pytest.raises(BackendError, match="'tf32' was requested, but numpy computes in float32 alone"):
        in_precision(np, "tf32")
    works(np)
    monkeypatch.setenv("XPCNN_PRECISION", "bfloat16")
    with pytest.raises(BackendError, match="'bfloat16' was requested in XPCNN_PRECISION, but numpy"):
        resolve()


@pytest.mark.parametrize(("capability", "shown"), [("75", "7.5"), ("70", "7.0")])
def test_a_card_without_such_tensor_cores_says_what_it_has(monkeypatch, capability, shown):
    monkeypatch.setattr(strict.xp.cuda.Device(), "compute_capability", capability)
    with pytest.raises(BackendError, match=f"has compute capability {shown}, .* 8.0. Use .* 'float32'"):
        in_precision(strict.xp, "tf32")


@pytest.mark.parametrize("capability", ["80", "90", "100", "120"])
def test_cards_from_ampere_on_have_them(monkeypatch, capability):
    monkeypatch.setattr(strict.xp.cuda.Device(), "compute_capability", capability)
    assert precision_of(in_precision(strict.xp, "bfloat16")) == "bfloat16"


def test_unknown_names_list_the_known_ones(monkeypatch):
    with pytest.raises(BackendError, match=r"no precision 'fp8'.* Use one of: float32, tf32, bfloat16, float16"):
        in_precision(strict.xp, "fp8")
    monkeypatch.setenv("XPCNN_PRECISION", "bf16")
    with pytest.raises(BackendError, match=r"'bf16' in XPCNN_PRECISION\. Did you mean bfloat16"):
        in_precision(strict.xp)
