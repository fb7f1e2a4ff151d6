"""The tensors of a checkpoint as arrays, under PerfXLM's own names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

import perfxapi as px
from perfxlm.fields import ConfigError, UnsupportedModelError
from perfxlm.weights.awq import AWQTensor
from perfxlm.weights.tensor import WeightTensor

StoredTensor = WeightTensor | AWQTensor

_FLOATS = (px.float32, px.float16, px.bfloat16)


class Checkpoint:
    """Implements `perfxlm.layers.base.Weights` over the tensors of a file or folder.

    `find(name, layer)` gives the stored name of one of PerfXLM's names. Arrays are made when they are asked for, over
    the mapped file and without a copy; the pages are released once a backend has packed them.
    """

    def __init__(
        self, source: str, tensors: Mapping[str, StoredTensor], find: Callable[[str, int | None], str]
    ) -> None:
        self._source, self._tensors, self._find = source, tensors, find
        self._used: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return self._find(name, None) in self._tensors

    @property
    def is_quantized(self) -> bool:
        """Whether any tensor is stored in a quantized type."""
        return any(tensor.dtype.is_quantized for tensor in self._tensors.values())

    def matrix(self, name: str, shape: tuple[int, int], layer: int | None = None) -> px.Array:
        """See Weights."""
        tensor = self._tensor(name, shape, layer)
        if not tensor.dtype.is_quantized and tensor.dtype not in _FLOATS:
            raise ConfigError(self._source, f"tensor {tensor.name}", f"{tensor.dtype.name} is no type of weights")
        return px.constant(_constant_data(tensor), tensor.dtype, shape, name=tensor.name, release=tensor.release)

    def vector(self, name: str, size: int, layer: int | None = None, offset: float = 0.0) -> px.Array:
        """See Weights."""
        tensor = self._tensor(name, (size,), layer)
        values = self._floats(tensor) + np.float32(offset)
        return px.constant(values, px.float32, (size,), name=tensor.name)

    def values(self, name: str, size: int) -> tuple[float, ...]:
        """A small vector [size] of the whole model, as numbers."""
        return tuple(self._floats(self._tensor(name, (size,), None)).tolist())

    def require_all_used(self, is_expected: Callable[[str], bool]) -> None:
        """Raises UnsupportedModelError naming a tensor that was not asked for, unless `is_expected(name)`.

        A model that has more tensors than its architecture knows (biases, adapters) would compute something else.
        """
        for stored in self._tensors:
            if stored not in self._used and not is_expected(stored):
                problem = "the architecture has no use for it, so its results would be wrong without it"
                raise UnsupportedModelError(self._source, f"tensor {stored}", problem)

    def _tensor(self, name: str, shape: tuple[int, ...], layer: int | None) -> StoredTensor:
        stored = self._find(name, layer)
        tensor = self._tensors.get(stored)
        if tensor is None:
            raise ConfigError(self._source, f"tensor {stored}", "it is missing")
        if tensor.shape != shape:
            raise ConfigError(self._source, f"tensor {stored}", f"shape {shape} is expected; got {tensor.shape}")
        self._used.add(stored)
        return tensor

    def _floats(self, tensor: StoredTensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        if isinstance(tensor, AWQTensor) or tensor.dtype not in _FLOATS:
            problem = f"float32, float16 or bfloat16 is expected; got {tensor.dtype.name}"
            raise ConfigError(self._source, f"tensor {tensor.name}", problem)
        return tensor.to_float32()


def _constant_data(tensor: StoredTensor) -> npt.NDArray[Any] | Callable[[], npt.NDArray[Any]]:
    """What a constant is made over: the mapped file, or what converts it when it is read."""
    if isinstance(tensor, AWQTensor):
        return tensor.raw_rows
    return tensor.data if tensor.dtype.is_quantized else tensor.to_numpy()
