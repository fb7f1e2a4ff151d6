"""Preprocessing and linear models (domain ai.onnx.ml)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from perfxapi import dtypes
from perfxapi import standard as px
from perfxapi.array import Array
from perfxapi.errors import InvalidArgumentError
from perfxapi.onnx.operators.choices import choice
from perfxapi.onnx.operators.scores import as_floats, both_classes, labels, post_transform, top_labels
from perfxapi.onnx.operators.shape import sizes_of
from perfxapi.onnx.registry import OperatorNode, Value, from_host, known, operator

_DOMAIN = "ai.onnx.ml"


def _constant(node: OperatorNode, values: Any, dtype: Any = np.float32) -> Array:
    return px.asarray(np.asarray(values, dtype), device=node.device)


# ---- preprocessing


@operator("ArrayFeatureExtractor", domain=_DOMAIN)
def array_feature_extractor(node: OperatorNode, x: Value, places: Array) -> Value:
    """The elements of the last axis at these places."""
    if isinstance(x, Array):
        taken = px.take(x, places.reshape(-1), axis=x.ndim - 1)
        return taken.reshape((1, -1)) if x.ndim == 1 else taken
    return np.atleast_2d(np.take(known(x), known(places).reshape(-1), axis=-1))


@operator("Binarizer", domain=_DOMAIN)
def binarizer(node: OperatorNode, x: Array) -> Array:
    """1 where x is more than a threshold, else 0."""
    return px.astype(px.greater(as_floats(x), node.attribute("threshold", 0.0)), x.dtype)


@operator("Scaler", domain=_DOMAIN)
def scaler(node: OperatorNode, x: Array) -> Array:
    """(x - offset) * scale, as float32."""
    moved = px.subtract(as_floats(x), _constant(node, node.attribute("offset") or [0.0]))
    return px.multiply(moved, _constant(node, node.attribute("scale") or [1.0]))


@operator("Normalizer", domain=_DOMAIN)
def normalizer(node: OperatorNode, x: Array) -> Array:
    """Rows over their largest element, the sum of their magnitudes, or their length; where that is 0, as they are."""
    rows = as_floats(x)
    name = choice(node, "norm", ("MAX", "L1", "L2"), "MAX")
    if name == "MAX":
        size = px.max(rows, axis=-1, keepdims=True)
    elif name == "L1":
        size = px.sum(px.abs(rows), axis=-1, keepdims=True)
    else:
        size = px.sqrt(px.sum(px.multiply(rows, rows), axis=-1, keepdims=True))
    return px.divide(rows, px.where(px.equal(size, 0), 1, size))


@operator("Imputer", domain=_DOMAIN)
def imputer(node: OperatorNode, x: Array) -> Array:
    """x with one value (often NaN) replaced by another, or by one for each feature."""
    kind = "float" if x.dtype.kind == "float" else "int64"
    replaced = node.attribute(f"replaced_value_{kind}", 0)
    new = px.astype(_constant(node, node.required(f"imputed_value_{kind}s"), np.float64), x.dtype)
    is_nan = isinstance(replaced, float) and replaced != replaced
    return px.where(px.isnan(x) if is_nan else px.equal(x, replaced), new, x)


@operator("FeatureVectorizer", domain=_DOMAIN)
def feature_vectorizer(node: OperatorNode, *parts: Array) -> Array:
    """Columns of several tensors side by side, as float32."""
    rows = [as_floats(part if part.ndim > 1 else part.reshape((1, -1))) for part in parts]
    return px.concat(rows, axis=1)


@operator("OneHotEncoder", domain=_DOMAIN)
def one_hot_encoder(node: OperatorNode, x: Value) -> Value:
    """For each element a row of float32 with 1 at the category that it is."""
    strings = node.attribute("cats_strings")
    if strings:
        found = known(x)[..., None] == np.array(strings, object)
        hot: Value = from_host(found.astype(np.float32), node.device)
        missing = not found.any(axis=-1).all()
    else:
        assert isinstance(x, Array)
        categories = _constant(node, node.required("cats_int64s"), np.int64)
        equal = px.equal(px.astype(x, dtypes.int64)[..., None], categories)
        hot = px.astype(equal, dtypes.float32)
        missing = not node.attribute("zeros", 1) and not known(px.any(equal, axis=-1)).all()
    if missing and not node.attribute("zeros", 1):
        raise InvalidArgumentError(f"{node}: an element is none of the categories")
    return hot


# ---- labels


@operator("LabelEncoder", domain=_DOMAIN)
def label_encoder(node: OperatorNode, x: Value) -> Value:
    """Each element replaced by the value that stands beside the same key, or by a default."""
    keys, values = _listed(node, "keys"), _listed(node, "values")
    if node.version < 2:
        return _mapped_classes(node, x)
    kind = values.dtype.kind
    default = {"O": "_Unused", "f": -0.0}.get(kind, -1)
    name = {"O": "default_string", "f": "default_float"}.get(kind, "default_int64")
    given = node.attribute("default_tensor")
    default = node.attribute(name, default) if given is None else np.asarray(given).reshape(-1)[0]
    return _mapped(node, x, keys, values, default)


def _listed(node: OperatorNode, role: str) -> Any:
    """Keys or values, however they are given."""
    kinds = {"int64s": np.int64, "floats": np.float32, "strings": object}
    for name, dtype in kinds.items():
        if node.attribute(f"{role}_{name}"):
            return np.array(node.attributes[f"{role}_{name}"], dtype)
    tensor = node.attribute(f"{role}_tensor")
    return np.zeros(0) if tensor is None else np.asarray(tensor).reshape(-1)


def _mapped(node: OperatorNode, x: Value, keys: Any, values: Any, default: Any) -> Value:
    """A dictionary of elements. NaN is equal to NaN, and of keys that are given twice the last one counts."""
    if keys.dtype.kind == "O" or values.dtype.kind == "O" or not isinstance(x, Array):
        nan = object()
        key_of: Callable[[Any], Any] = lambda key: nan if key != key else key  # noqa: E731
        table = {key_of(key): value for key, value in zip(keys.tolist(), values.tolist(), strict=True)}
        source = known(x)
        found = np.array([table.get(key_of(key), default) for key in source.reshape(-1).tolist()], values.dtype)
        return from_host(found.reshape(source.shape), node.device)
    flat = x.reshape((-1,))[:, None]
    table_keys = _constant(node, keys[::-1], x.dtype.numpy)
    same = px.equal(flat, table_keys)
    if x.dtype.kind == "float":
        same = px.logical_or(same, px.logical_and(px.isnan(flat), px.isnan(table_keys)))
    place = px.argmax(px.astype(same, dtypes.uint8), axis=1)
    found_values = px.take(_constant(node, values[::-1], values.dtype), place, axis=0)
    fill = px.full((), default, dtype=found_values.dtype, device=node.device)
    return px.where(px.any(same, axis=1), found_values, fill).reshape(x.shape)


def _mapped_classes(node: OperatorNode, x: Value) -> Value:
    """Version 1: names of classes to their numbers, or numbers to names."""
    names = np.array(node.required("classes_strings"), object)
    numbers = np.arange(len(names))
    if isinstance(x, Array):
        return _mapped(node, x, numbers, names, node.attribute("default_string", "_Unused"))
    return _mapped(node, x, names, numbers, node.attribute("default_int64", -1))


@operator("CategoryMapper", domain=_DOMAIN)
def category_mapper(node: OperatorNode, x: Value) -> Value:
    """Strings to the numbers beside them, or numbers to strings."""
    names, numbers = np.array(node.required("cats_strings"), object), np.array(node.required("cats_int64s"), np.int64)
    if isinstance(x, Array):
        return _mapped(node, x, numbers, names, node.attribute("default_string", "_Unused"))
    return _mapped(node, x, names, numbers, node.attribute("default_int64", -1))


@operator("ZipMap", domain=_DOMAIN)
def zip_map(node: OperatorNode, x: Value) -> Any:
    """For each row a dictionary of its numbers by the names of the classes."""
    names = labels(node, "classlabels_int64s", "classlabels_strings")
    rows = known(x).reshape(-1, len(names))
    return [dict(zip(names, row.tolist(), strict=True)) for row in rows]


# ---- linear models


def _linear(node: OperatorNode, x: Array, count: int) -> Array:
    """x times the coefficients of each of `count` results, plus intercepts."""
    rows = as_floats(x if x.ndim > 1 else x.reshape((1, -1)))
    weights = _constant(node, node.required("coefficients")).reshape((count, sizes_of(rows)[1]))
    result = px.matmul(rows, weights.mT)
    intercepts = node.attribute("intercepts")
    return px.add(result, _constant(node, intercepts)) if intercepts else result


@operator("LinearRegressor", domain=_DOMAIN)
def linear_regressor(node: OperatorNode, x: Array) -> Array:
    """A linear function of features for each target."""
    return post_transform(_linear(node, x, node.attribute("targets", 1)), node.attribute("post_transform", "NONE"))


@operator("LinearClassifier", domain=_DOMAIN)
def linear_classifier(node: OperatorNode, x: Array) -> tuple[Value, Array]:
    """The class of the largest linear function of features, and the scores of all classes.

    With one function for two classes its sign decides.
    """
    names = labels(node, "classlabels_ints", "classlabels_strings")
    count = len(node.required("coefficients")) // sizes_of(x)[-1]
    scores = _linear(node, x, count)
    transform = node.attribute("post_transform", "NONE")
    if count > 1 or len(names) < 2:
        return top_labels(node, px.argmax(scores, axis=1), names), post_transform(scores, transform)
    second = px.astype(px.greater(scores[:, 0], 0), dtypes.int64)
    return top_labels(node, second, names), both_classes(scores[:, 0], transform, is_probability=True)


# ---- support vectors


def _kernel(node: OperatorNode, x: Array, vectors: Array) -> Array:
    """The kernel of every row with every vector."""
    gamma, offset, degree = node.attribute("kernel_params") or [0.0, 0.0, 0.0]
    kind = choice(node, "kernel_type", ("LINEAR", "POLY", "RBF", "SIGMOID"), "LINEAR")
    products = px.matmul(x, vectors.mT)
    if kind == "LINEAR":
        return products
    if kind == "RBF":
        squares = [px.sum(px.multiply(part, part), axis=1, keepdims=True) for part in (x, vectors)]
        apart = px.subtract(px.add(squares[0], squares[1].mT), px.multiply(products, 2))
        return px.exp(px.multiply(px.maximum(apart, 0), -gamma))
    scaled = px.add(px.multiply(products, gamma), offset)
    return px.tanh(scaled) if kind == "SIGMOID" else px.pow(scaled, float(degree))


@operator("SVMRegressor", domain=_DOMAIN)
def svm_regressor(node: OperatorNode, x: Array) -> Array:
    """A sum of kernels with support vectors (or a linear function); with `one_class` its sign."""
    rows = as_floats(x)
    coefficients = _constant(node, node.required("coefficients"))
    count = node.attribute("n_supports", 0)
    inputs = (
        rows
        if not count
        else _kernel(node, rows, _constant(node, node.required("support_vectors")).reshape((count, -1)))
    )
    scores = px.add(px.matmul(inputs, coefficients[:, None]), _constant(node, node.required("rho")[:1]))
    if node.attribute("one_class", 0):
        return px.where(px.greater(scores, 0), px.ones_like(scores), -1.0)
    return post_transform(scores, node.attribute("post_transform", "NONE"))
