"""Cosine and sine tables of rotary embedding, computed once per step and shared by layers."""

from __future__ import annotations

from collections.abc import Sequence

import perfxapi as px
from perfxlm.layers.base import ModelOptions
from perfxlm.rope import RopeConfig


class RotaryTables:
    """One table per distinct RopeConfig of a model's layers, on each device that they are on."""

    def __init__(self, ropes: Sequence[RopeConfig], options: ModelOptions) -> None:
        self._options = options
        self._kinds = [(rope, options.device_of(layer)) for layer, rope in enumerate(ropes)]
        self._frequencies: dict[RopeConfig, px.Array] = {}
        for number, rope in enumerate(dict.fromkeys(ropes)):
            values = rope.inverse_frequencies()
            self._frequencies[rope] = px.constant(values, px.float32, values.shape, name=f"rope_frequencies.{number}")

    def __call__(self, positions: px.Array) -> list[px.Array]:
        """For each layer its table [tokens, dim] (cosines, then sines) at `positions` [tokens]."""
        tables: dict[tuple[RopeConfig, str | None], px.Array] = {}
        for layer, kind in enumerate(self._kinds):
            if kind not in tables:
                rope = kind[0]
                with self._options.on_device_of(layer):
                    tables[kind] = px.nn.rope_table(positions, self._frequencies[rope], scale=rope.amplitude)
        return [tables[kind] for kind in self._kinds]
