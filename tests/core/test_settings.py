"""Settings from the environment."""

from __future__ import annotations

import pytest

from perfxapi.errors import InvalidArgumentError
from perfxapi.settings_model import Settings, read_settings, variable_of


def test_defaults() -> None:
    found = read_settings({})
    assert (found.device, found.fallback, found.disable_kernels, found.plugins) == ("auto", "warn", (), None)


def test_values_are_read_and_lists_are_split() -> None:
    found = read_settings(
        {
            "PERFXAPI_DEVICE": "cpu:1",
            "PERFXAPI_DISABLE_KERNELS": "cpu:linear, cpu:rope,",
            "PERFXAPI_PLUGINS": "",
            "PERFXAPI_NUM_THREADS": "3",
            "PERFXAPI_AFFINITY": "0,2",
            "PERFXAPI_UNKNOWN": "x",
        }
    )
    assert found.device == "cpu:1"
    assert found.disable_kernels == ("cpu:linear", "cpu:rope")
    assert found.plugins == ()
    assert (found.num_threads, found.affinity) == (3, (0, 2))
    assert read_settings({"PERFXAPI_AFFINITY": "4-6,0"}).affinity == (4, 5, 6, 0)
    assert read_settings({"PERFXAPI_AFFINITY": "compact"}).affinity == "compact"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PERFXAPI_NUM_THREADS", "-1"),
        ("PERFXAPI_NUM_THREADS", "many"),
        ("PERFXAPI_FALLBACK", "never"),
        ("PERFXAPI_AFFINITY", "0,x"),
        ("PERFXAPI_AFFINITY", "-1"),
        ("PERFXAPI_AFFINITY", "scatter"),
        ("PERFXAPI_SPIN_US", "1e99"),
        ("PERFXAPI_DISABLE_KERNELS", "paged_attention"),
        ("PERFXAPI_DISABLE_KERNELS", "cpu:exp;cpu:tanh"),
    ],
)
def test_a_wrong_value_names_its_variable(variable: str, value: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^{variable}='{value}': "):
        read_settings({variable: value})


def test_every_setting_is_described() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert variable_of(name) == f"PERFXAPI_{name.upper()}"
