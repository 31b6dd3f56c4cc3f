"""Refusing file names with the extension of another library, which would promise the wrong format."""

from __future__ import annotations

from pathlib import Path

from xpcnn.files import PathLike

#: By extension: the library whose files have it.
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
#: The function that writes a library's files.
WRITERS = {
    "ONNX": "xpcnn.formats.onnx.export(model, path) or `xpcnn export`",
    "PyTorch": "xpcnn.formats.torch.save_state_dict(model, path)",
}


def refuse_foreign(path: PathLike) -> None:
    """Raise ValueError for a path with the extension of another library, since safetensors are written.

    >>> refuse_foreign("cells.keras")
    Traceback (most recent call last):
    ValueError: The file would not be one of Keras, as 'cells.keras' suggests. Use 'cells.safetensors'.
    """
    library = LIBRARIES.get(Path(path).suffix.lower())
    if library is not None:
        ours = str(Path(path).with_suffix(".safetensors"))
        other = f", or for {library} {WRITERS[library]}" if library in WRITERS else ""
        raise ValueError(f"The file would not be one of {library}, as {str(path)!r} suggests. Use {ours!r}{other}.")
