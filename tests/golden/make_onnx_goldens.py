"""Writes tests/data/onnx-models.npz: what ONNX Runtime makes of the models and inputs in tests/onnx/real_models.py.

pip install onnxruntime; python tests/golden/make_onnx_goldens.py
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "onnx"))

from real_models import MODELS, RECORD, path_of, recorded_part

record = {"version": np.array(onnxruntime.__version__)}
for name, (_, inputs) in MODELS.items():
    session = onnxruntime.InferenceSession(path_of(name), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    for output, values in zip(names, session.run(names, inputs), strict=True):
        record[f"{name}/{output}"] = recorded_part(values)
        record[f"{name}/{output}/shape"] = np.array(values.shape)
np.savez_compressed(RECORD, **record)
print(f"{RECORD}: {RECORD.stat().st_size} bytes")
