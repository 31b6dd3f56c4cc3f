import re

import pytest

from xpcnn.endings import refuse_foreign


@pytest.mark.parametrize("ending", [".keras", ".h5", ".hdf5", ".pb", ".pkl", ".PT", ".pth", ".onnx"])
def test_an_ending_of_another_library_is_refused_with_the_name_to_use(tmp_path, ending):
    with pytest.raises(ValueError, match=re.escape(f"Use {str(tmp_path / 'cells.v2.safetensors')!r}")):
        refuse_foreign(tmp_path / f"cells.v2{ending}")


@pytest.mark.parametrize(
    ("ending", "writer"),
    [
        (".onnx", "or for ONNX xpcnn.formats.onnx.export(model, path) or `xpcnn export`."),
        (".pt", "or for PyTorch xpcnn.formats.torch.save_state_dict(model, path)."),
    ],
)
def test_what_writes_such_a_file_is_named(ending, writer):
    with pytest.raises(ValueError, match=f"{re.escape(writer)}$"):
        refuse_foreign(f"cells{ending}")


@pytest.mark.parametrize("name", ["cells", "cells.safetensors", "cells.checkpoint", "cells.2026-01-31", ".h5"])
def test_other_names_are_as_good_as_any(name):
    refuse_foreign(name)
