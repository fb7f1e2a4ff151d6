"""The op API: arrays, one op on a device of choice, what ran where."""

from __future__ import annotations

import numpy as np

import perfxapi as px

x = px.asarray(np.linspace(-1, 1, 8 * 640, dtype=np.float32).reshape(8, 640))
weight = px.constant(np.ones(640, np.float32), px.float32, (640,))
y = px.nn.rms_norm(x, weight, eps=1e-6)
print(y.shape, y.dtype, y.device)

# An op that a device lacks falls back, by itself and never silently.
pulse = px.asarray(np.asarray([1, 0, 0, 0], np.complex64))
print(np.asarray(px.fft.fft(pulse)))
print(px.explain())
