"""Opens a model: a GGUF file, or a folder in HuggingFace's format."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from perfxapi.errors import FileFormatError
from perfxlm.config import ModelConfig, hf_architecture, hf_fields
from perfxlm.fields import Fields
from perfxlm.layers.base import ModelOptions
from perfxlm.layers.decoder import Decoder
from perfxlm.models.registry import model_class
from perfxlm.rope import DivisorScaling
from perfxlm.weights import GGUFFile, SafetensorsFile
from perfxlm.weights.awq import awq_tensors, check_awq
from perfxlm.weights.checkpoint import Checkpoint, StoredTensor
from perfxlm.weights.generation import GenerationDefaults
from perfxlm.weights.metadata import Metadata
from perfxlm.weights.names import HFNames, gguf_name

_MAX_JSON_BYTES: Final = 1 << 24
_HF_FILES: Final = ("config.json", "generation_config.json")
# Of a multimodal checkpoint the text model is taken; rotary frequencies follow from the configuration.
_UNUSED_PARTS: Final = ("vision_tower.", "multi_modal_projector.")
_UNUSED_ENDS: Final = (".rotary_emb.inv_freq", "lm_head.weight")


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """An opened model. Weights are mapped, not yet read.

    `tokenizer_source` is where the tokenizer and chat template are: the folder, or the metadata of the GGUF file.
    """

    path: Path
    architecture: str
    config: ModelConfig
    weights: Checkpoint = field(repr=False)
    generation: GenerationDefaults
    tokenizer_source: Path | Metadata = field(repr=False)

    def build(self, options: ModelOptions | None = None) -> Decoder:
        """The model over these weights.

        Raises ConfigError naming a tensor that is missing or has another shape, and UnsupportedModelError naming one
        that the architecture does not know.
        """
        model = model_class(self.architecture)(self.config, self.weights, options)
        self.weights.require_all_used(_is_expected)
        return model


def open_model(path: str | os.PathLike[str]) -> ModelFiles:
    """Opens a GGUF file (any of a split model), a folder that holds one, or a folder with config.json and safetensors.

    Raises FileNotFoundError; FileFormatError or ConfigError naming what is malformed; UnknownNameError for an
    architecture that no model class answers to; UnsupportedModelError for a feature that its class lacks.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder; a .gguf file or a HuggingFace folder is expected")
    if path.is_dir() and (models := sorted(path.glob("*.gguf"))) and not (path / _HF_FILES[0]).exists():
        path = _only_model(path, models)
    return _open_folder(path) if path.is_dir() else _open_gguf(GGUFFile.open(path))


def _only_model(folder: Path, models: list[Path]) -> Path:
    """The GGUF file of a folder, or the first of a split model's."""
    first = [path for path in models if "-of-" not in path.name or "-00001-of-" in path.name]
    if len(first) != 1:
        names = ", ".join(path.name for path in models[:5])
        raise FileFormatError(folder, "folder", f"one GGUF model is expected; name one of {names}")
    return first[0]


def _open_gguf(file: GGUFFile) -> ModelFiles:
    source = str(file.path)
    fields = Fields(file.metadata, source)
    architecture = fields.text("general.architecture")
    config = model_class(architecture).config_from_gguf(file.metadata, source)
    weights = Checkpoint(source, file.tensors, gguf_name)
    config = replace(config, tied_embeddings="output" not in weights)
    if "rope_divisors" in weights:
        config = _with_divisors(config, weights)
    return ModelFiles(file.path, architecture, config, weights, GenerationDefaults.from_gguf(fields), file.metadata)


def _with_divisors(config: ModelConfig, weights: Checkpoint) -> ModelConfig:
    divisors = weights.values("rope_divisors", config.ropes[0].dim // 2)
    return replace(config, ropes=tuple(replace(rope, scaling=DivisorScaling(divisors)) for rope in config.ropes))


def _open_folder(folder: Path) -> ModelFiles:
    config, generation_config = (_read_json(folder / name) for name in _HF_FILES)
    source = str(folder / _HF_FILES[0])
    architecture = hf_architecture(config, source)
    model = model_class(architecture)
    tensors = _folder_tensors(folder, config, source)
    weights = Checkpoint(str(folder), tensors, HFNames(tensors, model.hf_names))
    fields = hf_fields(config, source)
    generation = GenerationDefaults.from_hf(fields, Fields(generation_config, str(folder / _HF_FILES[1])))
    return ModelFiles(folder, architecture, model.config_from_hf(config, source), weights, generation, folder)


def _folder_tensors(folder: Path, config: dict[str, Any], source: str) -> Mapping[str, StoredTensor]:
    """The tensors of a folder; those of an AWQ checkpoint as the matrices that they make."""
    for fields in (Fields(config, source), hf_fields(config, source)):
        if "quantization_config" in fields:
            check_awq(fields.child("quantization_config"))
            return awq_tensors(str(folder), SafetensorsFile.open(folder).tensors)
    return SafetensorsFile.open(folder).tensors


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object out of a file; empty where generation_config.json is absent."""
    if not path.exists() and path.name != _HF_FILES[0]:
        return {}
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise FileFormatError(path, "size", f"more than {_MAX_JSON_BYTES} bytes")
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise FileFormatError(path, "content", f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise FileFormatError(path, "content", f"an object is expected; got {type(value).__name__}")
    return value


def _is_expected(tensor: str) -> bool:
    return any(part in tensor for part in _UNUSED_PARTS) or tensor.endswith(_UNUSED_ENDS)
