"""The ONNX models in two packages of the index, with inputs: what tests run, and ONNX Runtime ran for the record."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

RECORD = Path(__file__).resolve().parents[1] / "data/onnx-models.npz"
MAX_RECORDED = 8192
"""Elements of an output that are recorded: evenly spaced ones of a larger output."""

_SILERO, _RAPIDOCR = "silero_vad/data", "rapidocr_onnxruntime/models"


def _speech(*shape: int) -> Any:
    return (0.1 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


def _picture(*shape: int) -> Any:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def _voice(rate: int = 16000, **more: Any) -> dict[str, Any]:
    return {"input": _speech(1, 36 * rate // 1000), "state": _speech(2, 1, 128), **more}


MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "voice": (f"{_SILERO}/silero_vad.onnx", _voice(sr=np.array(16000))),
    "voice at 8 kHz": (f"{_SILERO}/silero_vad.onnx", _voice(8000, sr=np.array(8000))),
    "voice, opset 15": (f"{_SILERO}/silero_vad_16k_op15.onnx", _voice(sr=np.array(16000))),
    "voice, opset 18": (f"{_SILERO}/silero_vad_op18_ifless.onnx", _voice(sr=np.array(16000))),
    "voice, half": (f"{_SILERO}/silero_vad_half.onnx", _voice()),
    "voice, fixed shapes": (f"{_SILERO}/silero_vad_openvino_16k.onnx", _voice()),
    "voice, sequence": (
        f"{_SILERO}/silero_vad_16k_sequence.onnx",
        {"input": _speech(7, 576), "h": _speech(1, 1, 128), "c": _speech(1, 1, 128)},
    ),
    "text detection": (f"{_RAPIDOCR}/ch_PP-OCRv4_det_infer.onnx", {"x": _picture(1, 3, 64, 96)}),
    "text recognition": (f"{_RAPIDOCR}/ch_PP-OCRv4_rec_infer.onnx", {"x": _picture(2, 3, 48, 64)}),
    "text direction": (f"{_RAPIDOCR}/ch_ppocr_mobile_v2.0_cls_infer.onnx", {"x": _picture(3, 3, 48, 192)}),
}


def path_of(name: str) -> Path | None:
    """The file of a model; None where its package is not installed."""
    package, _, rest = MODELS[name][0].partition("/")
    spec = importlib.util.find_spec(package)  # finds, and does not import
    return Path(spec.origin).parent / rest if spec is not None and spec.origin else None


def recorded_part(values: Any) -> Any:
    """What of an output is recorded."""
    flat = np.asarray(values).reshape(-1)
    return flat[:: -(-flat.size // MAX_RECORDED)]
