"""Scales with which codes come closest to values, by squared error: searched among a few candidates.

Codes are guessed from each candidate; for each guess linear regression gives the best scale (and minimum).
"""

from __future__ import annotations

import numpy as np

from perfxapi.quantization.blocks import Bytes, Floats

_SEARCH_STEPS = np.linspace(-2.5, 1.5, 17)  # how far the number of levels of a candidate scale is from the nominal one


def nearest(values: Floats, scale: Floats, low: int, high: int) -> Floats:
    """The whole numbers in [low, high] nearest to values / scale; 0 where the scale is 0."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = np.where(scale == 0, np.float32(0), values / scale)
    return np.clip(np.rint(ratio), low, high)


def extreme(values: Floats) -> Floats:
    """The value of largest magnitude of each row, with its sign: [..., 1]."""
    return np.take_along_axis(values, np.abs(values).argmax(axis=-1, keepdims=True), axis=-1)


def fit_with_minimum(values: Floats, levels: int) -> tuple[Floats, Floats]:
    """Scale and minimum [..., 1] with which codes 0 .. `levels` come closest to `values` [..., size]."""
    low = np.minimum(values.min(axis=-1, keepdims=True), 0)
    span = np.maximum(values.max(axis=-1, keepdims=True) - low, 0)
    best = np.full_like(low, np.inf)
    scale, minimum = np.zeros_like(low), np.zeros_like(low)
    for step in _SEARCH_STEPS.astype(np.float32):
        codes = nearest(values - low, span / max(levels + step, 1), 0, levels)
        mean_code, mean = codes.mean(axis=-1, keepdims=True), values.mean(axis=-1, keepdims=True)
        slope = _ratio(((codes - mean_code) * (values - mean)).sum(-1, keepdims=True), np.square(codes - mean_code))
        shift = slope * mean_code - mean
        through_zero = _ratio((codes * values).sum(-1, keepdims=True), np.square(codes))
        free = (shift >= 0) & (slope >= 0)
        slope, shift = np.where(free, slope, np.maximum(through_zero, 0)), np.where(free, shift, 0)
        error = np.square(slope * codes - shift - values).sum(axis=-1, keepdims=True)
        better = error < best
        best = np.where(better, error, best)
        scale, minimum = np.where(better, slope, scale), np.where(better, shift, minimum)
    return scale, minimum


def fit_symmetric(values: Floats, levels: int) -> Floats:
    """Scale [..., 1] with which codes -levels .. levels - 1 come closest to `values` [..., size]."""
    largest = extreme(values)
    best, scale = np.full_like(largest, np.inf), np.zeros_like(largest)
    for step in _SEARCH_STEPS.astype(np.float32):
        codes = nearest(values, largest / min(-levels - step, -1), -levels, levels - 1)
        slope = _ratio((codes * values).sum(-1, keepdims=True), np.square(codes))
        error = np.square(slope * codes - values).sum(axis=-1, keepdims=True)
        better = error < best
        best, scale = np.where(better, error, best), np.where(better, slope, scale)
    return scale


def fit_table(values: Floats, table: Floats) -> Floats:
    """Scale [..., 1] with which numbers of an ascending `table` come closest to `values` [..., size]."""
    largest = extreme(values)
    best, scale = np.full_like(largest, np.inf), np.zeros_like(largest)
    for step in _SEARCH_STEPS[::4].astype(np.float32):
        for end in (table[0], table[-1]):
            codes = table[nearest_in_table(values, largest / (end * (1 + step / 32)), table)]
            slope = _ratio((codes * values).sum(-1, keepdims=True), np.square(codes))
            error = np.square(slope * codes - values).sum(axis=-1, keepdims=True)
            better = error < best
            best, scale = np.where(better, error, best), np.where(better, slope, scale)
    return scale


def nearest_in_table(values: Floats, scale: Floats, table: Floats) -> Bytes:
    """Index in an ascending `table` of the number nearest to values / scale, or to 0 where the scale is 0."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = np.where(scale == 0, np.float32(0), values / scale)
    return np.searchsorted((table[1:] + table[:-1]) / 2, ratio).astype(np.uint8)


def _ratio(numerator: Floats, squares: Floats) -> Floats:
    """numerator / sum(squares), and 0 where that sum is 0."""
    denominator = squares.sum(axis=-1, keepdims=True)
    ratio: Floats = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
    return ratio
