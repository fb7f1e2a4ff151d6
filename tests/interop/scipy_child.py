"""Run in a process of its own, with SCIPY_ARRAY_API=1: tries every call with arrays of ours beside NumPy's."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import json
import sys
import warnings
from typing import Any

import numpy as np
import scipy_calls
from scipy._lib import _array_api

import perfxapi as px

DEVICE = "cpu"


def ours(value: Any) -> Any:
    """The same arguments with arrays of ours."""
    if isinstance(value, np.ndarray):
        return px.asarray(value.copy(), device=DEVICE)
    if isinstance(value, tuple):
        return tuple(map(ours, value))
    return px if value is np else value


def leaves(value: Any) -> list[Any]:
    """The arrays and numbers in a result."""
    if isinstance(value, dict):
        return [leaf for key in sorted(value, key=str) for leaf in leaves(value[key])]
    if isinstance(value, tuple | list):
        return [leaf for item in value for leaf in leaves(item)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [leaf for field in dataclasses.fields(value) for leaf in leaves(getattr(value, field.name))]
    if isinstance(value, px.Array | np.ndarray | np.generic | bool | int | float | complex):
        return [value]
    return []


def differs(got: Any, expected: Any, ordered: bool) -> str:
    """How a result differs from NumPy's; empty where it does not."""
    mine, theirs = leaves(got), leaves(expected)
    if len(mine) != len(theirs):
        return f"{len(mine)} values, not {len(theirs)}"
    for a, b in zip(mine, theirs, strict=True):
        x, y = np.asarray(a), np.asarray(b)
        if not ordered:
            x, y = np.sort_complex(np.atleast_1d(x)), np.sort_complex(np.atleast_1d(y))
        if x.shape != y.shape:
            return f"shape {x.shape}, not {y.shape}"
        if not np.allclose(x, y, rtol=1e-7, atol=1e-9, equal_nan=True):
            return f"differs by {np.max(np.abs(x - y))}"
    return ""


def elsewhere(got: Any, expected: Any) -> str:
    """Where an array is that should be ours, on the device of the operands; empty where all are."""
    for a, b in zip(leaves(got), leaves(expected), strict=True):
        if isinstance(b, np.ndarray) and not isinstance(a, px.Array):
            return "NumPy's array comes back"
        if isinstance(a, px.Array) and a.device.kind != DEVICE:
            return f"it comes back on {a.device}"
    return ""


def outcome(function: Any, call: scipy_calls.Call, ordered: bool) -> str:
    """ "ok", or what is wrong."""
    arguments, named = call
    scipy_calls.LIBRARY[0] = np
    try:
        expected = function(*copy.deepcopy(arguments), **copy.deepcopy(named, {id(np): np}))
    except Exception as error:
        return f"with NumPy's arrays: {type(error).__name__}: {error}"
    scipy_calls.LIBRARY[0] = px
    try:
        got = function(*map(ours, copy.deepcopy(arguments)),
                       **{name: ours(value) for name, value in copy.deepcopy(named, {id(np): np}).items()})  # fmt: skip
    except Exception as error:  # whatever goes wrong is what is to be told
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return differs(got, expected, ordered) or elsewhere(got, expected) or "ok"


def main() -> None:
    """Prints {namespace: {function: outcome}}."""
    warnings.simplefilter("ignore")
    found: dict[str, dict[str, str]] = {}
    for name, calls in scipy_calls.namespaces():
        module = importlib.import_module(name)
        found[name] = {}
        for function_name in sorted(public(module)):
            if function_name in calls:
                ordered = f"{name}.{function_name}" not in scipy_calls.UNORDERED
                found[name][function_name] = outcome(getattr(module, function_name), calls[function_name], ordered)
            else:
                found[name][function_name] = "no call"
    json.dump(found, sys.stdout)


def public(module: Any) -> list[str]:
    """The functions of a namespace that say they take arrays of the standard."""
    names = []
    for name in dir(module):
        function = getattr(module, name)
        try:
            known = _array_api.xp_capabilities_table.get(function)
        except TypeError:
            known = None
        if known and not name.startswith("_") and not known["np_only"] and not known["out_of_scope"]:
            names.append(name)
    return names


if __name__ == "__main__":
    main()
