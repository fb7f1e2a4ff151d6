"""Losses of classifiers."""

from __future__ import annotations

from perfxapi import standard as px
from perfxapi.array import Array
from perfxapi.onnx.operators.activation import log_softmax
from perfxapi.onnx.operators.choices import choice
from perfxapi.onnx.operators.precision import widened
from perfxapi.onnx.registry import OperatorNode, operator


@operator("NegativeLogLikelihoodLoss")
def negative_log_likelihood(
    node: OperatorNode, log_probabilities: Array, target: Array, weight: Array | None = None
) -> Array:
    """Minus the log-probability of each target class, weighted by class, then averaged or summed as `reduction` says.

    Targets equal to `ignore_index` do not count.
    """
    ignored, reduction = node.attribute("ignore_index"), choice(node, "reduction", ("mean", "sum", "none"), "mean")
    counts = None if ignored is None else px.not_equal(target, ignored)
    classes = target if counts is None else px.where(counts, target, 0)
    chosen = px.take_along_axis(log_probabilities, px.expand_dims(classes, axis=1), axis=1)
    loss = px.negative(px.squeeze(chosen, axis=1))
    weights = None
    if weight is not None:
        weights = px.take(weight, classes.reshape(-1), axis=0).reshape(classes.shape)
    if counts is not None:
        weights = px.astype(counts, loss.dtype) if weights is None else px.where(counts, weights, 0)
        loss = px.where(counts, loss, 0)
    loss = loss if weights is None else px.multiply(loss, weights)
    if reduction == "none":
        return loss
    wide = widened(loss)
    result = px.sum(wide, dtype=wide.dtype)
    if reduction == "mean":
        share = float(loss.size) if weights is None else px.sum(widened(weights), dtype=wide.dtype)
        result = px.divide(result, share)
    return px.astype(result, loss.dtype, copy=False)


@operator("SoftmaxCrossEntropyLoss")
def softmax_cross_entropy(
    node: OperatorNode, scores: Array, labels: Array, weight: Array | None = None
) -> tuple[Array, Array]:
    """The negative log-likelihood loss of the softmax over classes, and that softmax's logarithm."""
    logarithm = px.moveaxis(log_softmax(px.moveaxis(scores, 1, -1)), -1, 1)
    return negative_log_likelihood(node, logarithm, labels, weight), logarithm  # type: ignore[return-value]
