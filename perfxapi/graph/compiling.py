"""From a graph to an executable: on the device that was asked for, or where it is quickest."""

from __future__ import annotations

from collections.abc import Mapping

from perfxapi.device import Device
from perfxapi.graph.automatic import place_by_cost
from perfxapi.graph.executor import Executable
from perfxapi.graph.ir import Graph
from perfxapi.policy import get_device, requested_device


def compile(graph: Graph, *, device: Device | str | None = None, bounds: Mapping[str, int]) -> Executable:
    """Plans a graph for a device: fuses, chooses a kernel for each node, lays out memory, compiles.

    `bounds` gives the largest size of each symbolic dimension. The plan serves every size up to it. With "auto" it is
    placed by cost, on one device or several (see `perfxapi.graph.automatic`); while nothing is measured, on the best.
    """
    if (device or requested_device()) == "auto":
        placed = place_by_cost(graph, bounds)
        if placed is not None:
            return Executable(placed.graph, placed.device, bounds, is_fused=True)
    return Executable(graph, get_device(device), bounds)
