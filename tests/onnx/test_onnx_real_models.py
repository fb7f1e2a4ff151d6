"""Real models (voice activity, text detection and recognition) give what ONNX Runtime gave for the same inputs."""

import sys

import numpy as np
import pytest
from real_models import MODELS, RECORD, path_of, recorded_part

import perfxapi.onnx as px_onnx


@pytest.mark.parametrize("device", ["cpu", "numpy"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore::perfxapi.errors.FallbackWarning")
def test_real_models_equal_onnx_runtime(name, device):
    path = path_of(name)
    if path is None and sys.version_info >= (3, 13):
        pytest.skip("rapidocr-onnxruntime is not published for this Python")
    assert path is not None, "the packages of the dependency group `models` are missing: make install"
    model = px_onnx.load(path, device=device)
    outputs = model.run(MODELS[name][1])
    again = model.run(MODELS[name][1])
    with np.load(RECORD) as record:
        for output, values in outputs.items():
            assert values.device.kind == device
            assert values.shape == tuple(record[f"{name}/{output}/shape"])
            np.testing.assert_allclose(recorded_part(values), record[f"{name}/{output}"], rtol=0, atol=1e-4)
            np.testing.assert_array_equal(np.asarray(again[output]), np.asarray(values))
    assert [planned.between_plans for planned in model.planned()] == [False], "one plan runs all of it"
