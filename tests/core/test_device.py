"""Devices, streams and errors: the small values that everything else names."""

from __future__ import annotations

import inspect

import pytest

import perfxapi as px
from perfxapi import errors
from perfxapi.device import parse_device_name
from perfxapi.errors import FileFormatError, InvalidArgumentError, PerfXError, UnknownNameError
from perfxapi.stream import CompletedEvent, Event, Stream, SynchronousStream


def test_a_device_is_its_kind_and_number() -> None:
    one = px.Device("cpu", 1, "a processor", "host")
    assert one == px.Device("cpu", 1)
    assert hash(one) == hash(px.Device("cpu", 1))
    assert one != px.Device("cpu", 2)
    assert (str(one), repr(one)) == ("cpu:1", "Device('cpu:1')")


@pytest.mark.parametrize(
    ("name", "parsed"), [("cpu", ("cpu", 0)), ("opencl:12", ("opencl", 12)), ("a_1:0", ("a_1", 0))]
)
def test_names_of_devices(name: str, parsed: tuple[str, int]) -> None:
    assert parse_device_name(name) == parsed


@pytest.mark.parametrize("name", ["", "1", "cpu:", ":1", "cpu:1.0", "cpu:-1", "CPU", "cpu\n", None, 3])
def test_what_is_not_a_name_of_a_device(name: object) -> None:
    with pytest.raises(InvalidArgumentError, match="device must look like"):
        parse_device_name(name)  # type: ignore[arg-type]


def test_the_stream_of_a_host_device_is_always_done() -> None:
    stream = SynchronousStream(px.Device("cpu"))
    event = stream.record()
    event.wait()
    stream.synchronize()
    assert event.is_complete()
    assert stream.num_recorded == 1
    assert isinstance(stream, Stream)
    assert isinstance(CompletedEvent(), Event)


def test_every_error_has_one_root_and_the_builtin_that_fits() -> None:
    found = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]
    assert all(issubclass(kind, PerfXError | errors.PerfXWarning) for kind in found)
    assert issubclass(InvalidArgumentError, ValueError)
    assert issubclass(errors.OutOfMemoryError, MemoryError)
    assert all(kind.__doc__ for kind in found)


def test_errors_say_what_and_what_next() -> None:
    assert str(UnknownNameError("op", "expp", ["exp", "tanh"])) == (
        "unknown op 'expp'. Did you mean 'exp'? Known: exp, tanh."
    )
    assert str(UnknownNameError("op", "qqq", [])) == "unknown op 'qqq'. Known: none."
    error = FileFormatError("a.gguf", "byte 12", "too long")
    assert (str(error), error.where) == ("a.gguf: byte 12: too long", "byte 12")
