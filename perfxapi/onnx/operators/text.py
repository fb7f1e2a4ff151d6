"""Strings: they live on the host, and so does what is computed from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from perfxapi.onnx.operators.choices import choice
from perfxapi.onnx.operators.patterns import Pattern
from perfxapi.onnx.registry import OperatorNode, Value, from_host, known, operator

Strings = npt.NDArray[np.object_]


def _each(function: Callable[[str], Any], strings: Any, dtype: Any = object) -> npt.NDArray[Any]:
    """A function of every string of a tensor."""
    values = known(strings)
    result = np.empty(values.shape, dtype)
    result.reshape(-1)[:] = [function(text) for text in values.reshape(-1)]
    return result


@operator("StringConcat")
def string_concat(node: OperatorNode, first: Value, second: Value) -> Value:
    """Strings joined element by element, broadcast."""
    return np.asarray(np.add(known(first).astype(object), known(second).astype(object)), object)


@operator("StringSplit")
def string_split(node: OperatorNode, strings: Value) -> tuple[Value, ...]:
    """Each string cut at a delimiter (by default at white space); lists are filled up with "". And their lengths."""
    delimiter, most = node.attribute("delimiter") or None, node.attribute("maxsplit")
    parts = [text.split(delimiter, -1 if most is None else most) for text in known(strings).reshape(-1)]
    longest = max(map(len, parts), default=0)
    shape = known(strings).shape
    result = np.array([part + [""] * (longest - len(part)) for part in parts], object).reshape(*shape, longest)
    counts = np.array([len(part) for part in parts], np.int64).reshape(shape)
    return result, from_host(counts, node.device)


@operator("RegexFullMatch")
def regex_full_match(node: OperatorNode, strings: Value) -> Value:
    """Whether all of each string matches a pattern (the part of RE2's syntax that Python's has too)."""
    pattern = Pattern(str(node.required("pattern")))
    return from_host(_each(pattern.matches, strings, np.bool_), node.device)


_CASES: dict[str, Callable[[str], str]] = {"LOWER": str.lower, "UPPER": str.upper, "NONE": str}


@operator("StringNormalizer")
def string_normalizer(node: OperatorNode, strings: Value) -> Value:
    """A row of strings without stop words, in upper or lower case if so asked; "" where nothing is left."""
    exact = bool(node.attribute("is_case_sensitive", 0))
    change = _CASES[choice(node, "case_change_action", _CASES, "NONE")]
    fold: Callable[[str], str] = str if exact else str.lower
    stopwords = {fold(word) for word in node.attribute("stopwords", [])}
    values = known(strings)
    kept = [change(text) for text in values.reshape(-1) if fold(text) not in stopwords] or [""]
    return np.array(kept, object).reshape((1,) * (values.ndim - 1) + (len(kept),))


# ---- n-grams


@operator("TfIdfVectorizer")
def tf_idf_vectorizer(node: OperatorNode, items: Value) -> Value:
    """How often each n-gram of a pool occurs in each row of numbers or strings, weighted as `mode` says."""
    pool = _pool(node)
    indexes = node.required("ngram_indexes")
    weights = np.array(node.attribute("weights") or [1.0] * len(indexes), np.float32)
    values = known(items)
    rows = values if values.ndim == 2 else values[None]
    result = np.zeros((len(rows), max(indexes) + 1), np.float32)
    mode = choice(node, "mode", ("TF", "IDF", "TFIDF"))
    for row, counts in zip(rows.tolist(), result, strict=True):
        for gram in _grams(row, node):
            if gram in pool:
                counts[indexes[pool[gram]]] += 1
    if mode != "TF":
        scale = np.zeros(result.shape[1], np.float32)
        scale[indexes] = weights
        result = (np.minimum(result, 1) if mode == "IDF" else result) * scale
    return from_host(result if values.ndim == 2 else result[0], node.device)


def _pool(node: OperatorNode) -> dict[tuple[Any, ...], int]:
    """The n-grams, each with its number; `ngram_counts` says where those of each length start."""
    flat: Sequence[Any] = node.attribute("pool_strings") or node.required("pool_int64s")
    starts = [*node.required("ngram_counts"), len(flat)]
    grams = [
        tuple(flat[place : place + length])
        for length, (start, stop) in enumerate(pairwise(starts), 1)
        for place in range(start, stop, length)
    ]
    return {gram: number for number, gram in enumerate(grams)}


def _grams(row: Sequence[Any], node: OperatorNode) -> Iterator[tuple[Any, ...]]:
    """All n-grams of a row of the lengths that count, with up to `max_skip_count` items left out between neighbors."""
    for length in range(node.required("min_gram_length"), node.required("max_gram_length") + 1):
        for step in range(1, 2 if length == 1 else node.required("max_skip_count") + 2):
            reach = (length - 1) * step
            yield from (tuple(row[start : start + reach + 1 : step]) for start in range(len(row) - reach))
