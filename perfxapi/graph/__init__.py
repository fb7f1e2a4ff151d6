"""Graphs: trace, fuse, plan, run."""

from perfxapi.graph.automatic import measuring
from perfxapi.graph.compiling import compile
from perfxapi.graph.executor import BoundExecutable, Executable, Launching, Placement
from perfxapi.graph.fuse import fuse
from perfxapi.graph.ir import Graph, Node, Value
from perfxapi.graph.trace import trace

__all__ = [
    "BoundExecutable",
    "Executable",
    "Graph",
    "Launching",
    "Node",
    "Placement",
    "Value",
    "compile",
    "fuse",
    "measuring",
    "trace",
]
