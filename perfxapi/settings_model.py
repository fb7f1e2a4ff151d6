"""The model of all settings, read from the environment (`PERFXAPI_*`). Importing it imports pydantic."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import PydanticCustomError

from perfxapi.errors import InvalidArgumentError
from perfxapi.settings import AffinityPolicy, FallbackPolicy, processor_numbers

PREFIX = "PERFXAPI_"


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _affinity(value: object) -> object:
    if not isinstance(value, str) or value in get_args(AffinityPolicy):
        return value
    try:
        return processor_numbers(value)
    except ValueError:
        raise PydanticCustomError(
            "affinity", "must be compact, spread, none or the numbers of processors, one for each thread, as 0,2 or 0-3"
        ) from None


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
KernelName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*:([a-z][a-z0-9_]*|\*)$")]
KernelNames = Annotated[tuple[KernelName, ...], BeforeValidator(_split)]
Affinity = Annotated[AffinityPolicy | tuple[int, ...], BeforeValidator(_affinity)]


class Settings(BaseModel):
    """Everything that can be set from outside. Each field is the environment variable PERFXAPI_<NAME>."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str = Field("auto", description='Device used where none is given: "auto", "cpu", "opencl:1", ...')
    fallback: FallbackPolicy = Field("warn", description="What happens when work cannot run where it was asked to.")
    disable_kernels: KernelNames = Field(
        (), description='Kernels never chosen, as "backend:op" or "backend:*", comma-separated.'
    )
    plugins: Names | None = Field(None, description="Allow-list of plugin entry points; empty disables all plugins.")
    num_threads: int = Field(0, ge=0, le=4096, description="Threads of the native pool; 0: one a usable processor.")
    cpu_variant: str = Field("", description="Instruction set of native kernels (scalar, avx2, ...); empty: the best.")
    riscv_variant: str = Field("", description="The same of the riscv backend (scalar, rvv128, ...); empty: the best.")
    spin_us: int = Field(200, ge=0, le=1_000_000, description="Microseconds that idle threads spin before they sleep.")
    tune: bool = Field(True, description="Measure which kernel is quickest where a backend offers several.")
    tune_seconds: float = Field(
        0.0,
        ge=0,
        description="Seconds that a process may measure where nodes of plans run best, as `perfxlm tune` does.",
    )
    tuning_file: str = Field("", description="File of measured choices; empty: one in the user's cache folder.")
    kernel_folder: str = Field("", description="Folder of compiled custom kernels; empty: one in the user's cache.")
    affinity: Affinity = Field(
        "",
        description="Where threads of the native pool run: compact (a cluster is filled before the next), spread (in "
        "turn on each), none (the system chooses) or the processor of each thread (0,2 or 0-3); empty: what is known "
        "of the chip, else none.",
    )


def variable_of(field: str) -> str:
    """The environment variable of a field."""
    return PREFIX + field.upper()


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment. Raises InvalidArgumentError naming the variable."""
    variables = os.environ if environment is None else environment
    given = {name: variables[variable_of(name)] for name in Settings.model_fields if variable_of(name) in variables}
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        problem = error.errors()[0]
        variable = variable_of(str(problem["loc"][0]))
        raise InvalidArgumentError(f"{variable}={given[str(problem['loc'][0])]!r}: {problem['msg']}") from None
