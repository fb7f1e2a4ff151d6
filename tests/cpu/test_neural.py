"""The native kernels of vision and speech networks: bits do not depend on threads, instruction sets or the batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from kernel_calls import OK, VARIANTS, accepts, run

from perfxapi.dtypes import dtype_of
from perfxapi.ops.spec import MAX_LIST, Sample, TensorSpec, op_spec

BATCHED = dict.fromkeys(("convolution", "pool", "layer_norm", "erf", "gelu"), 0)
"""Ops whose operands (those that are not constants) are batches along this axis."""


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


@pytest.mark.parametrize("op", BATCHED)
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


@pytest.mark.parametrize("op", BATCHED)
def test_bits_do_not_depend_on_the_batch(op: str) -> None:
    spec, axis = op_spec(op), BATCHED[op]
    for sample in native_samples(op):
        if sample.inputs[0].ndim == 0 or sample.label == "all axes":
            continue  # there is no batch
        size = sample.inputs[0].shape[axis]
        part = slice(size // 2, None)
        inputs = tuple(
            x if spec.is_weight(index) or x.shape == (0,) else np.ascontiguousarray(np.take(x, range(size)[part], axis))
            for index, x in enumerate(sample.inputs)
        )
        whole = computed(op, sample, num_threads=2)
        for got, want in zip(computed(op, Sample(inputs, sample.attributes), num_threads=2), whole, strict=True):
            np.testing.assert_array_equal(got, np.take(want, range(size)[part], axis))
