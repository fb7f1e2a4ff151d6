"""Parameters of rotary position embedding (Su et al. 2021, "RoFormer") and published ways to stretch its context."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Frequencies = npt.NDArray[np.float64]


class RopeScaling(Protocol):
    """Changes the inverse frequencies so that a longer context than the trained one can be used."""

    def apply(self, frequencies: Frequencies, theta: float) -> Frequencies:
        """The changed inverse frequencies (radians per position), of the same shape."""

    @property
    def amplitude(self) -> float:
        """The factor on the cosines and sines."""


@dataclass(frozen=True, slots=True)
class LinearScaling:
    """Position interpolation (Chen et al. 2023): all positions are divided by `factor`."""

    factor: float
    amplitude: float = 1.0

    def apply(self, frequencies: Frequencies, theta: float) -> Frequencies:
        """All frequencies, divided by the factor."""
        return frequencies / self.factor


@dataclass(frozen=True, slots=True)
class Llama3Scaling:
    """The scaling of Llama 3.1: long waves are divided by `factor`, short ones kept, a ramp between."""

    factor: float
    low_frequency_factor: float
    high_frequency_factor: float
    original_max_len: int
    amplitude: float = 1.0

    def apply(self, frequencies: Frequencies, theta: float) -> Frequencies:
        """Frequencies of fewer than `low` turns over the trained context are divided; of more than `high`, kept."""
        turns = self.original_max_len * frequencies / (2 * math.pi)
        span = self.high_frequency_factor - self.low_frequency_factor
        keep = np.clip((turns - self.low_frequency_factor) / span, 0.0, 1.0)
        return frequencies * (keep + (1.0 - keep) / self.factor)


@dataclass(frozen=True, slots=True)
class YarnScaling:
    """YaRN (Peng et al. 2023): interpolation by parts, and a temperature on the attention scores (`amplitude`)."""

    factor: float
    original_max_len: int
    amplitude: float
    beta_fast: float = 32.0
    beta_slow: float = 1.0

    def apply(self, frequencies: Frequencies, theta: float) -> Frequencies:
        """Channels of more than `beta_fast` turns over the trained context are kept; below `beta_slow`, divided."""
        dim = 2 * len(frequencies)
        low = max(math.floor(self._channel(self.beta_fast, dim, theta)), 0)
        high = min(math.ceil(self._channel(self.beta_slow, dim, theta)), dim - 1)
        ramp = np.clip((np.arange(dim // 2) - low) / (high - low or 0.001), 0.0, 1.0)
        return frequencies * (1.0 - ramp + ramp / self.factor)

    def _channel(self, turns: float, dim: int, theta: float) -> float:
        """The (fractional) channel that makes `turns` turns over the trained context."""
        wavelength = self.original_max_len / (2 * math.pi * turns)
        return dim * math.log(wavelength) / (2 * math.log(theta))


@dataclass(frozen=True, slots=True)
class DivisorScaling:
    """One divisor per frequency, as GGUF files carry them in `rope_freqs.weight` (from Llama 3.1 on)."""

    divisors: tuple[float, ...]
    amplitude: float = 1.0

    def apply(self, frequencies: Frequencies, theta: float) -> Frequencies:
        """Each frequency, divided by its divisor."""
        return frequencies / np.array(self.divisors, np.float64)


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """Rotary embedding of one kind of layer: base `theta`; `dim`, how many leading channels of a head are rotated."""

    theta: float
    dim: int
    scaling: RopeScaling | None = None

    @property
    def amplitude(self) -> float:
        """The factor on the cosines and sines."""
        return self.scaling.amplitude if self.scaling else 1.0

    def inverse_frequencies(self) -> npt.NDArray[np.float32]:
        """theta^(-2i/dim) for i < dim/2, scaled; radians per position, float32 of shape [dim / 2]."""
        frequencies = self.theta ** -(np.arange(0, self.dim, 2) / self.dim)
        if self.scaling:
            frequencies = self.scaling.apply(frequencies, self.theta)
        return frequencies.astype(np.float32)
