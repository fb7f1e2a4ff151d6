"""Cosine and sine tables of rotary embedding, computed once per step and shared by layers."""

from __future__ import annotations

from collections.abc import Sequence

import perfxapi as px
from perfxlm.rope import RopeConfig


class RotaryTables:
    """One table per distinct RopeConfig of a model's layers."""

    def __init__(self, ropes: Sequence[RopeConfig]) -> None:
        self._ropes = tuple(ropes)
        self._frequencies: dict[RopeConfig, px.Array] = {}
        for number, rope in enumerate(dict.fromkeys(ropes)):
            values = rope.inverse_frequencies()
            self._frequencies[rope] = px.constant(values, px.float32, values.shape, name=f"rope_frequencies.{number}")

    def __call__(self, positions: px.Array) -> list[px.Array]:
        """For each layer its table [tokens, dim] (cosines, then sines) at `positions` [tokens]."""
        tables = {
            rope: px.nn.rope_table(positions, frequencies, scale=rope.amplitude)
            for rope, frequencies in self._frequencies.items()
        }
        return [tables[rope] for rope in self._ropes]
