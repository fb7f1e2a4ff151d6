"""Readers of weight files: GGUF and safetensors, both into named tensors over a memory-mapped file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from perfxapi.errors import FileFormatError
from perfxlm.weights.gguf import MAGIC, GGUFFile
from perfxlm.weights.safetensors import INDEX_NAME, SINGLE_NAME, SafetensorsFile
from perfxlm.weights.tensor import MappedFile, WeightTensor

__all__ = ["GGUFFile", "MappedFile", "SafetensorsFile", "WeightTensor", "open_weights"]

_PICKLE_SUFFIXES: Final = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}
_CONVERSION = (
    "a Torch pickle, which can run any code when it is read, and so is refused. Where you trust it, convert it: "
    'safetensors.torch.save_file(torch.load(path, weights_only=True), "model.safetensors")'
)


def open_weights(path: str | os.PathLike[str]) -> GGUFFile | SafetensorsFile:
    """Opens a checkpoint: a GGUF file, a .safetensors file, a safetensors index, or a folder that holds one of these.

    The format is told by the file's first bytes. Raises OSError if a file cannot be opened, and FileFormatError if it
    is malformed, of no known format, or a Torch pickle (the message names the conversion).
    """
    path = Path(path)
    if path.is_dir():
        path = _find_in_folder(path)
    start = MappedFile(path).data[:8].tobytes()
    if start.startswith(MAGIC):
        return GGUFFile.open(path)
    if path.suffix in _PICKLE_SUFFIXES:
        raise FileFormatError(path, "file", _CONVERSION)
    if path.suffix in (".safetensors", ".json"):
        return SafetensorsFile.open(path)
    raise FileFormatError(path, "byte 0", f"expected a GGUF or safetensors file; it starts with {start!r}")


def _find_in_folder(folder: Path) -> Path:
    for name in (INDEX_NAME, SINGLE_NAME):
        if (folder / name).exists():
            return folder / name
    models = sorted(folder.glob("*.gguf"))
    parts = [path for path in models if "-of-" in path.name]
    if len(models) == 1 or (parts and parts == models):
        return models[0]
    if models:
        names = ", ".join(path.name for path in models[:5])
        raise FileFormatError(folder, "folder", f"several GGUF files ({names}): name one of them")
    for path in sorted(folder.iterdir()):
        if path.suffix in _PICKLE_SUFFIXES:
            raise FileFormatError(path, "file", _CONVERSION)
    raise FileFormatError(folder, "folder", f"neither {SINGLE_NAME}, nor {INDEX_NAME}, nor a GGUF file")
