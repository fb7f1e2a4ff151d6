"""Which layers run on which device, where a model is split by hand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from perfxapi.errors import InvalidArgumentError
from perfxlm.validation import shown

_RANGE = re.compile(r"(\d+)(-(\d*))?")


def layer_devices(device_map: Mapping[str, Any], num_layers: int) -> tuple[str, ...]:
    """The device of each layer.

    `device_map` gives for each device its layers, counted from 0: text like "0-8", "0-3,12" or "9-" (to the last), a
    number, or several numbers. Raises InvalidArgumentError unless every layer is there once.
    """
    devices: list[str | None] = [None] * num_layers
    for device, layers in device_map.items():
        for layer in _layers(layers, num_layers):
            if not 0 <= layer < num_layers:
                raise InvalidArgumentError(
                    f"device_map: {device!r} has layer {layer}; the model's are 0 to {num_layers - 1}"
                )
            if devices[layer] is not None:
                raise InvalidArgumentError(f"device_map: layer {layer} is on both {devices[layer]!r} and {device!r}")
            devices[layer] = device
    missing = [layer for layer, device in enumerate(devices) if device is None]
    if missing:
        raise InvalidArgumentError(f"device_map: no device has layer {missing[0]} (of {num_layers})")
    return tuple(str(device) for device in devices)


def check_device_map(device_map: Any) -> None:
    """Raises InvalidArgumentError for what is no mapping of device names to layers, whatever the model."""
    if not isinstance(device_map, Mapping) or not all(isinstance(device, str) for device in device_map):
        raise InvalidArgumentError(
            f'device_map must give layers for devices, like {{"opencl:0": "0-8", "cpu": "9-"}}; got {shown(device_map)}'
        )
    for layers in device_map.values():
        _layers(layers, 0)


def parse_device_map(parts: Iterable[str]) -> dict[str, str]:
    """A device map out of texts like "opencl:0=0-8"."""
    found: dict[str, str] = {}
    for part in parts:
        device, separator, layers = part.partition("=")
        if not separator or device in found:
            raise InvalidArgumentError(
                f'device_map must be like "opencl:0=0-8", once for each device; got {shown(part)}'
            )
        found[device] = layers
    return found


def _layers(layers: Any, num_layers: int) -> list[int]:
    """The numbers of the layers that a device gets."""
    if isinstance(layers, int) and not isinstance(layers, bool):
        return [layers]
    if isinstance(layers, str):
        return [layer for part in layers.split(",") for layer in _range(part.strip(), num_layers)]
    if isinstance(layers, Iterable) and not isinstance(layers, Mapping | bytes):
        return [layer for part in layers for layer in _layers(part, num_layers)]
    raise InvalidArgumentError(f'device_map: layers must be like "0-8", 3 or [0, 1]; got {shown(layers)}')


def _range(text: str, num_layers: int) -> range:
    match = _RANGE.fullmatch(text)
    if match is None:
        raise InvalidArgumentError(f'device_map: layers must be like "0-8", "3" or "9-"; got {shown(text)}')
    first, has_end, last = match.groups()
    if not has_end:
        return range(int(first), int(first) + 1)
    return range(int(first), int(last) + 1 if last else max(num_layers, int(first)))
