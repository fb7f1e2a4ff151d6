"""Which device is meant, and the one policy for what cannot be had."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from simulated import SimulatedBackend

import perfxapi as px
from perfxapi.backend import REGISTRY
from perfxapi.errors import DeviceUnavailableError, FallbackWarning, InvalidArgumentError, UnknownNameError

SetSetting = Callable[[str, str], None]


def test_a_known_device_that_is_not_installed_names_the_command_that_mends_it(absent: str) -> None:
    expected = (
        r"device 'absent': no backend for 'absent' is installed; to mend it: pip install perfxapi-backend-absent\. "
        "The work runs on "
    )
    with pytest.warns(FallbackWarning, match=expected):
        array = px.asarray(np.array([1, 2], np.float32), device=absent)
    assert array.device == px.get_device("auto")
    assert np.asarray(array + array).tolist() == [2, 4]
    ((op, asked, reason),) = [(row.op, row.device, row.reason) for row in px.explain().fallbacks]
    assert (op, asked, reason) == ("(device)", absent, "no backend for 'absent' is installed")


def test_with_allow_it_is_only_counted_and_with_error_it_raises() -> None:
    with px.use_device(fallback="allow"):
        px.get_device("cuda")
        px.get_device("cuda")
    assert [row.count for row in px.explain().fallbacks] == [2]
    with px.use_device("numpy", fallback="error"), pytest.raises(DeviceUnavailableError, match="perfxapi-backend-cuda"):
        px.get_device("cuda")


@pytest.mark.parametrize("policy", ["allow", "warn", "error"])
def test_a_name_that_nobody_knows_is_always_an_error(policy: str) -> None:
    with (
        px.use_device("numpy", fallback=policy),
        pytest.raises(UnknownNameError, match=r"'riscvv'. Did you mean 'riscv'"),
    ):
        px.get_device("riscvv")


@pytest.mark.parametrize("name", ["", "cpu:", "cpu:-1", "CPU", "cpu:1:2", "cpu 0", 7, "cpu:x"])
def test_what_does_not_look_like_a_device_is_an_error(name: str) -> None:
    if name == "":
        assert px.get_device(name) == px.get_device("auto")
        return
    with pytest.raises(InvalidArgumentError, match="device must look like"):
        px.get_device(name)


def test_a_number_that_is_not_there_follows_the_policy() -> None:
    with pytest.warns(FallbackWarning, match="there is no numpy device number 9; to mend it: perfxapi devices"):
        px.get_device("numpy:9")


def test_a_device_of_no_backend_is_an_error() -> None:
    with pytest.raises(UnknownNameError, match="unknown device 'ghost:0'"):
        px.asarray([1.0], device=px.Device("ghost"))


def test_the_setting_names_the_default_device(set_setting: SetSetting) -> None:
    set_setting("DEVICE", "numpy")
    assert str(px.asarray([1.0]).device) == "numpy:0"
    with px.use_device("auto"):
        assert px.get_device() == px.get_device("auto")


def test_contexts_nest_and_end(sim: SimulatedBackend) -> None:
    outer = px.get_device()
    with px.use_device("sim"):
        assert str(px.get_device()) == "sim:0"
        with px.use_device("numpy") as inner:
            assert px.get_device() == inner == px.Device("numpy")
        with px.use_device(fallback="error"):
            assert str(px.get_device()) == "sim:0"
        assert str(px.get_device()) == "sim:0"
    assert px.get_device() == outer


def test_a_context_that_raises_ends_too(set_setting: SetSetting) -> None:
    with pytest.raises(ZeroDivisionError), px.use_device("numpy", fallback="error"):
        raise ZeroDivisionError
    with pytest.warns(FallbackWarning):
        px.get_device("hip")


def test_a_wrong_policy_is_an_error(set_setting: SetSetting) -> None:
    with (
        pytest.raises(InvalidArgumentError, match='"allow", "warn" or "error"; got \'maybe\''),
        px.use_device(fallback="maybe"),
    ):  # type: ignore[arg-type]
        pass
    set_setting("FALLBACK", "maybe")
    with pytest.raises(InvalidArgumentError, match="PERFXAPI_FALLBACK='maybe'"):
        px.get_device("auto")
        px.get_device("cuda")


def test_auto_is_the_usable_backend_of_the_highest_priority(sim: SimulatedBackend) -> None:
    devices = px.all_devices()
    assert px.get_device("auto") == devices[0]
    priorities = [REGISTRY.of_device(device).manifest.priority for device in devices]
    assert priorities == sorted(priorities, reverse=True)
    assert str(devices[-1]) == "numpy:0"


def test_auto_with_nothing_but_the_reference_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = REGISTRY.of_device(px.Device("numpy"))
    monkeypatch.setattr(REGISTRY, "entries", lambda: [reference])
    with pytest.warns(
        FallbackWarning, match="device 'auto': no backend for 'cpu' is installed; .* pip install perfxapi-backend-cpu"
    ):
        assert str(px.get_device()) == "numpy:0"
    assert px.explain().fallbacks[0].ran_on == "numpy:0"
    with pytest.raises(DeviceUnavailableError), px.use_device(fallback="error"):
        pass
    with px.use_device("numpy", fallback="error") as device:
        assert str(device) == "numpy:0"
