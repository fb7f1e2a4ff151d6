"""Libraries on the array API standard with perfxapi arrays: SciPy transforms, einops rearranges, scikit-learn learns.

Vibrations of two machines, one of them with a worn bearing, are told apart without being told which is which.
"""

import os

os.environ["SCIPY_ARRAY_API"] = "1"  # before SciPy is imported

import numpy as np
import scipy.fft
from einops.array_api import rearrange, reduce
from sklearn import set_config
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

import perfxapi as px

set_config(array_api_dispatch=True)

# 400 measurements of two sensors with 256 samples each; in every other one a tone of a worn bearing
rng = np.random.default_rng(0)
time = np.arange(256) / 256
tone = np.arange(400)[:, None, None] % 2 * np.sin(2 * np.pi * 40 * time)
recorded = rng.standard_normal((400, 2, 256)) + np.sin(2 * np.pi * 12 * time) + tone

x = px.asarray(recorded, device="cpu")
spectrum = px.abs(scipy.fft.rfft(x, axis=-1))[:, :, :128]
bands = reduce(spectrum, "measurement sensor (band bin) -> measurement sensor band", "mean", bin=4)
features = rearrange(bands, "measurement sensor band -> measurement (sensor band)")

points = PCA(2, svd_solver="full").fit_transform(features)
groups = GaussianMixture(2, init_params="random_from_data", random_state=0).fit_predict(points)

worn = px.asarray(np.arange(400) % 2, device="cpu")
agreement = float(px.mean(px.astype(groups == worn, px.float64)))
print(f"features {features.shape}, points {points.shape} on {points.device}, groups on {groups.device}")
print(f"told apart: {max(agreement, 1 - agreement):.1%}")
for place in sorted({row.ran_on for row in px.explain().rows}):
    counts: dict[str, int] = {}
    for row in px.explain().rows:
        if row.ran_on == place:
            counts[row.op] = counts.get(row.op, 0) + row.count
    print(f"on {place}:", ", ".join(f"{op} x {count}" for op, count in sorted(counts.items())))
