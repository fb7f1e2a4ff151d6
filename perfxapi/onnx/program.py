"""Programs: a graph of ONNX as the steps that compute it, each a translation with the names it reads and writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from perfxapi.errors import InvalidArgumentError, PerfXError, TraceError
from perfxapi.onnx.registry import OperatorNode, Registration, Value, ValueNeeded

_MAX_UNROLLED = 256
"""Steps that loops may add to one plan."""

Scope = Mapping[str, Value]
"""Values by name."""


@dataclass(frozen=True)
class Port:
    """An input or output of a graph.

    `kind` is "tensor", "sequence" or "optional"; `code` is ONNX's number of the elements' type, 0 where none is stated.
    `shape` is None where the rank is not stated; a size is an int, a name, or None.
    """

    name: str
    kind: str = "tensor"
    code: int = 0
    shape: tuple[int | str | None, ...] | None = None


@dataclass(frozen=True, eq=False)
class Step:
    """One node: the names it reads and writes, its translation, and the programs of its subgraphs."""

    node: OperatorNode
    translation: Registration | None
    inputs: tuple[str, ...]
    programs: Mapping[str, Program] = field(default_factory=dict)

    @cached_property
    def between_plans(self) -> bool:
        """Whether it is never part of a plan."""
        say = False if self.translation is None else self.translation.between_plans
        return say(self.node, self.inputs) if callable(say) else say

    @cached_property
    def reads(self) -> frozenset[str]:
        """All names that must be known before it runs: its inputs and what its subgraphs take from around them."""
        captured = (program.captured for program in self.programs.values())
        return frozenset(name for name in self.inputs if name).union(*captured)

    def apply(self, scope: Scope, enter: Enter) -> dict[str, Value]:
        """Its outputs by name. `enter` runs a program in a scope (its own values hide those of the same name)."""
        operands = [scope[name] if name else None for name in self.inputs]
        if self.translation is None:
            results: Any = enter(self.programs["function"], scope, operands)
        else:
            results = self._translated(operands, scope, enter)
        values = results if isinstance(results, tuple) else (results,)
        for index, name in enumerate(self.node.outputs[len(values) :], len(values)):
            if name:
                raise self.node.unsupported(f"output {index} ({name!r})")
        return {name: value for name, value in zip(self.node.outputs, values, strict=False) if name}

    def _translated(self, operands: Sequence[Value], scope: Scope, enter: Enter) -> Any:
        assert self.translation is not None
        node = self.node
        if self.programs:
            closures = {name: Closure(program, scope, enter) for name, program in self.programs.items()}
            node = replace(node, attributes={**node.attributes, **closures})
        try:
            return self.translation.translation(node, *operands)
        except TraceError as error:  # some function below wanted to know a value
            raise ValueNeeded from error
        except InvalidArgumentError as error:
            if str(error).startswith(str(node)):
                raise
            raise InvalidArgumentError(f"{node}: {error}") from error
        except PerfXError:
            raise
        except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, MemoryError) as error:
            raise InvalidArgumentError(f"{node}: {type(error).__name__}: {error}") from error


@dataclass(frozen=True, eq=False)
class Program:
    """A graph: its ports, constants and steps, in an order in which they can run."""

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    constants: Mapping[str, Value]
    steps: tuple[Step, ...]

    @cached_property
    def captured(self) -> frozenset[str]:
        """Names that it reads and does not define: those of the graphs around it."""
        own = {port.name for port in self.inputs} | set(self.constants)
        own.update(name for step in self.steps for name in step.node.outputs)
        read = frozenset(port.name for port in self.outputs).union(*(step.reads for step in self.steps))
        return frozenset(name for name in read - own if name)

    @cached_property
    def size(self) -> int:
        """Steps that it is made of, with those of functions and subgraphs for each time that they stand in it."""
        return len(self.steps) + sum(program.size for step in self.steps for program in step.programs.values())

    def live(self, index: int) -> frozenset[str]:
        """Names that steps from `index` on, or the outputs, need and that are defined before."""
        if index not in self._live:
            needed = {port.name for port in self.outputs}
            for step in reversed(self.steps[index:]):
                needed.difference_update(step.node.outputs)
                needed |= step.reads
            self._live[index] = frozenset(needed)
        return self._live[index]

    @cached_property
    def _live(self) -> dict[int, frozenset[str]]:
        return {}

    def start(self, outer: Scope, operands: Sequence[Value]) -> dict[str, Value]:
        """The values, besides its constants, with which the first step runs.

        `outer` is the scope around the program. Raises InvalidArgumentError for too many operands.
        """
        if len(operands) > len(self.inputs):
            raise InvalidArgumentError(f"{self.name}: takes {len(self.inputs)} inputs; got {len(operands)}")
        scope = {name: outer[name] for name in self.captured}
        scope.update((port.name, value) for port, value in zip(self.inputs, operands, strict=False))
        scope.update((port.name, None) for port in self.inputs[len(operands) :] if port.name not in self.constants)
        return scope

    def results(self, scope: Scope) -> tuple[Value, ...]:
        """The outputs once all steps have run."""
        return tuple(scope[port.name] for port in self.outputs)

    def all_steps(self) -> Iterator[Step]:
        """Its steps and, after each, those of its subgraphs."""
        for step in self.steps:
            yield step
            for program in step.programs.values():
                yield from program.all_steps()


Enter = Callable[[Program, Scope, Sequence[Value]], tuple[Value, ...]]
"""Runs a program: (program, the scope around it, its operands) gives its results."""


@dataclass(frozen=True, slots=True)
class Closure:
    """A subgraph that can be called: what a translation of a control-flow operator finds among its attributes."""

    program: Program
    scope: Scope
    enter: Enter

    def __call__(self, *operands: Value) -> tuple[Value, ...]:
        """The results of the subgraph."""
        return self.enter(self.program, self.scope, operands)

    def count_turn(self) -> None:
        """A loop is about to call it once more. Raises ValueNeeded where that makes a plan too large."""
        if isinstance(self.enter, Inlining):
            self.enter.left -= self.program.size
            if self.enter.left < 0:
                raise ValueNeeded


class Inlining:
    """Runs programs as part of one trace. `left` is how many more steps loops may add to it."""

    def __init__(self) -> None:
        self.left = _MAX_UNROLLED

    def __call__(self, program: Program, outer: Scope, operands: Sequence[Value]) -> tuple[Value, ...]:
        """Runs all steps of a program."""
        scope = {**program.constants, **program.start(outer, operands)}
        for step in program.steps:
            if step.between_plans:
                raise ValueNeeded
            scope.update(step.apply(scope, self))
        return program.results(scope)
