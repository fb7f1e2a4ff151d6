"""The native kernels of vision and speech networks: bits do not depend on threads, instruction sets or the batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from kernel_calls import OK, VARIANTS, accepts, run

from perfxapi.dtypes import dtype_of
from perfxapi.ops.spec import MAX_LIST, Sample, TensorSpec, op_spec

_FIRST = {0: 0}, (0, 0)
_LAYER = {0: 1, 4: 0, 5: 0, 6: 0}, (1, 0, 0)
BATCHED: dict[str, tuple[dict[int, int], tuple[int, ...]]] = {
    **dict.fromkeys(("convolution", "pool", "layer_norm", "erf", "gelu"), _FIRST),
    **dict.fromkeys(("lstm", "gru", "rnn"), _LAYER),
}
"""For ops with a batch: the axis of it in each operand that has one, and in each result."""
NATIVE = [*BATCHED, "resample"]


def encoded(op: str, attributes: dict[str, Any]) -> list[int | float]:
    """Attributes as native code takes them."""
    numbers: list[int | float] = []
    for attribute in op_spec(op).attributes:
        value = attributes[attribute.name]
        if attribute.kind is list:
            numbers += [len(value), *value, *[0] * (MAX_LIST - len(value))]
        else:
            numbers.append(attribute.choices.index(value) if attribute.choices else value)
    return numbers


def computed(op: str, sample: Sample, variant: str = "", num_threads: int = 1) -> list[Any]:
    """The results of a sample's call."""
    spec = op_spec(op)
    attributes = spec.check_attributes(sample.attributes)
    outputs = results_of(op, sample, attributes)
    assert run(op, sample.inputs, outputs, encoded(op, attributes), variant, num_threads) == OK
    return outputs


def results_of(op: str, sample: Sample, attributes: dict[str, Any]) -> list[Any]:
    """Arrays for the results, filled with something."""
    specs = [TensorSpec(x.shape, dtype_of(x.dtype)) for x in sample.inputs]
    return [np.full(spec.shape, 77, spec.dtype.numpy) for spec in op_spec(op).infer(specs, attributes)]


def native_samples(op: str) -> Iterator[Sample]:
    """The samples that the kernel takes."""
    for given in op_spec(op).samples():
        sample = Sample(tuple(map(np.asarray, given.inputs)), given.attributes, given.label)
        attributes = op_spec(op).check_attributes(sample.attributes)
        if accepts(op, sample.inputs, results_of(op, sample, attributes), encoded(op, attributes)):
            yield sample


@pytest.mark.parametrize("op", NATIVE)
def test_bits_do_not_depend_on_threads_or_variants(op: str) -> None:
    samples = list(native_samples(op))
    assert samples
    for sample in samples:
        expected = computed(op, sample)
        for variant in VARIANTS:
            for num_threads in (1, 3):
                found = computed(op, sample, variant, num_threads)
                for got, want in zip(found, expected, strict=True):
                    np.testing.assert_array_equal(got, want, err_msg=f"{sample.label}, {variant}, {num_threads}")


@pytest.mark.parametrize("variant", VARIANTS)
def test_depthwise_convolutions_of_every_width(variant: str) -> None:
    """Each instruction set has a widest tile of its own: rows that end before it, at it and past it."""
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((3, 1, 3, 3)).astype(np.float32), np.empty(0, np.float32)
    for width in (63, 64, 65, 95, 96, 97, 112, 113, 128, 129, 300):
        x = rng.standard_normal((1, 3, 5, width)).astype(np.float32)
        sample = Sample((x, weight, bias), {"groups": 3, "pads": (1, 1, 1, 1)})
        attributes = op_spec("convolution").check_attributes(sample.attributes)
        expected = op_spec("convolution").reference(*sample.inputs, **attributes)
        (found,) = computed("convolution", sample, variant)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5, err_msg=str(width))


@pytest.mark.parametrize("op", BATCHED)
def test_bits_do_not_depend_on_the_batch(op: str) -> None:
    axes, result_axes = BATCHED[op]
    for sample in native_samples(op):
        if sample.inputs[0].ndim == 0 or sample.label == "all axes":
            continue  # there is no batch
        half = range(sample.inputs[0].shape[axes[0]])[sample.inputs[0].shape[axes[0]] // 2 :]
        inputs = tuple(
            np.ascontiguousarray(np.take(x, half, axes[index])) if index in axes and x.shape != (0,) else x
            for index, x in enumerate(sample.inputs)
        )
        whole = computed(op, sample, num_threads=2)
        part = computed(op, Sample(inputs, sample.attributes), num_threads=2)
        for got, want, axis in zip(part, whole, result_axes, strict=False):
            np.testing.assert_array_equal(got, np.take(want, half, axis))


def test_the_error_function_and_gelu_keep_their_relative_error() -> None:
    x = np.linspace(-9, 9, 20001, dtype=np.float32)
    (found,) = computed("erf", Sample((x,)))
    expected = np.array([math.erf(value) for value in x.tolist()])
    np.testing.assert_allclose(found, expected, rtol=2.5e-7, atol=1e-45)
    (found,) = computed("gelu", Sample((x,)))
    exact = [0.5 * value * math.erfc(-value / math.sqrt(2)) for value in x.tolist()]
    near = np.abs(x) < 5
    np.testing.assert_allclose(found[near], np.array(exact)[near], rtol=5e-6)
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-6)
