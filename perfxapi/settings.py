"""Settings: one pydantic model, read from the environment (`PERFXAPI_*`) on first use."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from perfxapi.errors import InvalidArgumentError

PREFIX = "PERFXAPI_"
FallbackPolicy = Literal["allow", "warn", "error"]


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
Numbers = Annotated[tuple[int, ...], BeforeValidator(_split)]


class Settings(BaseModel):
    """Everything that can be set from outside. Each field is the environment variable PERFXAPI_<NAME>."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str = Field("auto", description='Device used where none is given: "auto", "cpu", "opencl:1", ...')
    fallback: FallbackPolicy = Field("warn", description="What happens when work cannot run where it was asked to.")
    disable_kernels: Names = Field((), description='Kernels never chosen, as "backend:op", comma-separated.')
    plugins: Names | None = Field(None, description="Allow-list of plugin entry points; empty disables all plugins.")
    num_threads: int = Field(
        0, ge=0, le=4096, description="Threads of the native pool; 0: one for each usable processor."
    )
    cpu_variant: str = Field(
        "", description="Instruction set of native kernels (scalar, avx2, ...); empty: the best one."
    )
    spin_us: int = Field(
        200, ge=0, le=1_000_000, description="Microseconds that idle pool threads spin before they sleep."
    )
    affinity: Numbers = Field((), description="Processor of each pool thread, comma-separated; empty: no affinity.")
    cache_dir: Path | None = Field(None, description="Folder of caches; default $XDG_CACHE_HOME/perfxapi.")

    @property
    def cache_folder(self) -> Path:
        """The folder of caches (not created)."""
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return self.cache_dir or Path(base) / "perfxapi"


def read_settings(environment: dict[str, str] | None = None) -> Settings:
    """Settings from the environment. Raises InvalidArgumentError naming the variable."""
    variables = os.environ if environment is None else environment
    given = {}
    for name in Settings.model_fields:
        if (value := variables.get(PREFIX + name.upper())) is not None:
            given[name] = value
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        problem = error.errors()[0]
        variable = PREFIX + str(problem["loc"][0]).upper()
        raise InvalidArgumentError(f"{variable}={problem['input']!r}: {problem['msg']}") from None


@cache
def settings() -> Settings:
    """The settings of this process; `settings.cache_clear()` reads the environment again."""
    return read_settings()
