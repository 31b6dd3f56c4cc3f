"""Refusing file names with another library's extension, which would suggest the wrong format."""

from __future__ import annotations

from pathlib import Path

from xpcnn.files import PathLike

#: The library that uses each extension.
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
    """Raise ValueError for a path with another library's extension, since xpcnn writes safetensors files.

    >>> refuse_foreign("cells.keras")
    Traceback (most recent call last):
    ValueError: 'cells.keras' has the extension of Keras, but the file format is safetensors. Use 'cells.safetensors'.
    """
    library = LIBRARIES.get(Path(path).suffix.lower())
    if library is not None:
        ours = str(Path(path).with_suffix(".safetensors"))
        other = f", or for {library} {WRITERS[library]}" if library in WRITERS else ""
        raise ValueError(
            f"{str(path)!r} has the extension of {library}, but the file format is safetensors. Use {ours!r}{other}."
        )
