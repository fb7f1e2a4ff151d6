"""An ONNX file: made by tracing, run as a plan; then a real one, speech told from silence (silero-vad).

pip install 'perfxapi[onnx]' && pip install --no-deps silero-vad
"""

import importlib.util
import tempfile
from pathlib import Path

import numpy as np

import perfxapi as px
import perfxapi.onnx


def classify(x):
    hidden = px.nn.gelu(x @ weights)
    return px.nn.softmax(px.nn.layer_norm(hidden, px.ones(10, dtype=px.float32)))


rng = px.random.default_rng(0)
weights = rng.normal((64, 10), px.float32, scale=0.1)

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "classify.onnx"
    perfxapi.onnx.save(classify, path, {"x": px.TensorSpec((px.Dim("n"), 64), px.float32)})
    model = perfxapi.onnx.load(path)
    outputs = model(rng.normal((3, 64), px.float32))
    print(path.name, dict(model.operators()), outputs["output"].shape)

package = importlib.util.find_spec("silero_vad")
if package is not None and package.origin is not None:
    model = perfxapi.onnx.load(Path(package.origin).parent / "data/silero_vad.onnx")
    state = np.zeros((2, 1, 128), np.float32)
    time = np.arange(576 * 8) / 16000
    signal = (0.2 * np.sin(2 * np.pi * 150 * time) * (time > 0.15)).astype(np.float32)
    for piece in np.split(signal, 8):
        result = model.run({"input": piece[None], "state": state, "sr": np.array(16000)})
        state = result["stateN"]
        print(f"speech: {float(result['output']):.3f}")
    for planned in model.planned():
        print(f"one plan of {len(planned.executable.graph.nodes)} ops for {len(planned.steps)} nodes of the file")
print(px.explain())
