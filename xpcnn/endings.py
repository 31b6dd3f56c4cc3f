"""Names that end as files of other libraries do, which would promise what is not in them."""

from __future__ import annotations

from pathlib import Path

from xpcnn.files import PathLike

#: By ending: whose files these are.
LIBRARIES = {
    ".onnx": "ONNX",
    ".pt": "PyTorch",
    ".pth": "PyTorch",
    ".keras": "Keras",
    ".h5": "Keras",
    ".hdf5": "Keras",
    ".pb": "TensorFlow",
    ".tflite": "TensorFlow",
    ".pkl": "pickle",
    ".pickle": "pickle",
    ".joblib": "joblib",
}
#: What writes the files of a library.
WRITERS = {
    "ONNX": "xpcnn.formats.onnx.export(model, path) or `xpcnn export`",
    "PyTorch": "xpcnn.formats.torch.save_state_dict(model, path)",
}


def refuse_foreign(path: PathLike) -> None:
    """Raise ValueError for a path that names a file of another library, where safetensors are written.

    >>> refuse_foreign("cells.keras")
    Traceback (most recent call last):
    ValueError: What is saved is no file of Keras, as 'cells.keras' says. Use 'cells.safetensors'.
    """
    library = LIBRARIES.get(Path(path).suffix.lower())
    if library is not None:
        ours = str(Path(path).with_suffix(".safetensors"))
        other = f", or for {library} {WRITERS[library]}" if library in WRITERS else ""
        raise ValueError(f"What is saved is no file of {library}, as {str(path)!r} says. Use {ours!r}{other}.")
