"""Scaled rotary frequencies equal those of Transformers 5.23 (ROPE_INIT_FUNCTIONS, head_dim 32), written down here."""

from __future__ import annotations

import numpy as np
import pytest

from perfxlm.rope import DivisorScaling, LinearScaling, Llama3Scaling, RopeConfig, RopeScaling, YarnScaling

CASES: list[tuple[RopeConfig, list[float]]] = [
    (
        RopeConfig(1e4, 32, LinearScaling(8.0)),
        [0.125, 0.07029267, 0.03952847, 0.02222849, 0.0125, 0.007029266, 0.003952847, 0.002222849, 0.00125]
        + [0.0007029267, 0.0003952847, 0.0002222849, 0.000125, 7.029266e-05, 3.952847e-05, 2.222849e-05],
    ),
    (
        RopeConfig(5e5, 32, Llama3Scaling(32.0, 1.0, 4.0, 8192)),
        [1.0, 0.4403666, 0.1939228, 0.0853971, 0.03760603, 0.01656044, 0.007292665, 0.003211446, 0.0004295567]
        + [1.946164e-05, 8.570256e-06, 3.774054e-06, 1.661967e-06, 7.318749e-07, 3.222933e-07, 1.419272e-07],
    ),
    (
        RopeConfig(1e6, 32, YarnScaling(4.0, 32768, 1.138629436111989)),
        [1.0, 0.4216965, 0.1778279, 0.07498942, 0.03162278, 0.01333521, 0.004779901, 0.001659962, 0.00055]
        + [0.0001686786, 4.445699e-05, 1.874736e-05, 7.905694e-06, 3.333804e-06, 1.405853e-06, 5.928434e-07],
    ),
]


@pytest.mark.parametrize(("rope", "expected"), CASES, ids=lambda case: type(getattr(case, "scaling", None)).__name__)
def test_frequencies(rope: RopeConfig, expected: list[float]) -> None:
    np.testing.assert_allclose(rope.inverse_frequencies(), expected, rtol=1e-6)


def test_divisors_of_gguf_divide_each_frequency() -> None:
    plain = RopeConfig(1e4, 8).inverse_frequencies()
    scaled = RopeConfig(1e4, 8, DivisorScaling((1.0, 2.0, 4.0, 8.0))).inverse_frequencies()
    np.testing.assert_allclose(scaled, [1.0, 0.05, 0.0025, 0.000125], rtol=1e-6)
    np.testing.assert_allclose(plain, [1.0, 0.1, 0.01, 0.001], rtol=1e-6)


@pytest.mark.parametrize(
    ("scaling", "amplitude"), [(None, 1.0), (LinearScaling(2.0), 1.0), (YarnScaling(4.0, 64, 1.25), 1.25)]
)
def test_only_yarn_scales_the_amplitude(scaling: RopeScaling | None, amplitude: float) -> None:
    assert RopeConfig(1e4, 8, scaling).amplitude == amplitude
