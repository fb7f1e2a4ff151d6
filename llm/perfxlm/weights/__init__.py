"""Readers of weight files: GGUF and safetensors, both into named tensors over a memory-mapped file."""

from __future__ import annotations

from perfxlm.weights.gguf import GGUFFile
from perfxlm.weights.safetensors import SafetensorsFile
from perfxlm.weights.tensor import MappedFile, WeightTensor

__all__ = ["GGUFFile", "MappedFile", "SafetensorsFile", "WeightTensor"]
