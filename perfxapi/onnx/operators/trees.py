"""Ensembles of decision trees (domain ai.onnx.ml): all trees are walked at once for all rows, one level at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from perfxapi import dtypes
from perfxapi import standard as px
from perfxapi.array import Array
from perfxapi.errors import InvalidArgumentError
from perfxapi.onnx.operators.choices import choice
from perfxapi.onnx.operators.scores import both_classes, labels, post_transform, top_labels
from perfxapi.onnx.registry import OperatorNode, Value, operator

_DOMAIN = "ai.onnx.ml"
_MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER")
_MEMBER = 6
_COMPARE: tuple[Callable[[Array, Array], Array], ...] = (
    px.less_equal,
    px.less,
    px.greater_equal,
    px.greater,
    px.equal,
    px.not_equal,
)
_TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
_AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")

Numbers = npt.NDArray[Any]


@dataclass(frozen=True)
class Forest:
    """Trees as tables with a row for each place: inner nodes first, then leaves, which lead to themselves.

    `members` [places, count] is what a feature is looked for in where the mode is `BRANCH_MEMBER`, filled with NaN.
    `votes` [places, targets] is what each place adds to each target; NaN where it says nothing of one.
    """

    roots: Numbers
    feature: Numbers
    mode: Numbers
    split: Numbers
    true: Numbers
    false: Numbers
    missing_is_true: Numbers
    members: Numbers
    votes: Numbers

    def depth(self) -> int:
        """How many steps lead from the roots to the last leaf."""
        steps, places = 0, np.unique(self.roots)
        while np.any(inner := self.true[places] != places):
            places = np.unique(np.concatenate([self.true[places[inner]], self.false[places[inner]]]))
            steps += 1
            if steps > len(self.true):
                return steps
        return steps

    def leaves(self, x: Array) -> Array:
        """The place [rows, trees] of the leaf that each row comes to in each tree."""
        tables = (self.feature, self.split, self.mode, self.true, self.false, self.missing_is_true, self.roots)
        feature, split, mode_of, true, false, missing, roots = (px.asarray(t, device=x.device) for t in tables)
        split = px.astype(split, x.dtype)
        places = px.broadcast_to(roots, (int(x.shape[0]), len(self.roots)))
        modes = [int(mode) for mode in np.unique(self.mode[self.true != np.arange(len(self.true))])]
        for _ in range(self.depth()):
            value = px.take_along_axis(x, _at(feature, places), axis=1)
            chosen = px.logical_and(px.isnan(value), _at(missing, places))
            for mode in modes:
                is_member = mode == _MEMBER
                holds = self._is_member(value, places) if is_member else _COMPARE[mode](value, _at(split, places))
                if len(modes) > 1:
                    holds = px.logical_and(holds, px.equal(_at(mode_of, places), mode))
                chosen = px.logical_or(chosen, holds)
            places = px.where(chosen, _at(true, places), _at(false, places))
        return places

    def _is_member(self, value: Array, places: Array) -> Array:
        members = px.astype(px.asarray(self.members, device=value.device), value.dtype)
        near = px.take(members, places.reshape(-1), axis=0).reshape((*places.shape, self.members.shape[1]))
        return px.any(px.equal(value[..., None], near), axis=-1)

    def scores(self, x: Array, aggregate: str, dtype: dtypes.DType) -> Array:
        """What the leaves say of each target [rows, targets], put together; 0 where none says anything."""
        floats = x if x.dtype.kind == "float" else px.astype(x, dtypes.float64)
        places = self.leaves(floats)
        said = ~np.isnan(self.votes)
        votes = px.asarray(np.where(said, self.votes, _neutral(aggregate)).astype(dtype.numpy), device=x.device)
        rows, trees = (int(size) for size in places.shape)
        found = px.take(votes, places.reshape(-1), axis=0).reshape((rows, trees, self.votes.shape[1]))
        if aggregate in ("SUM", "AVERAGE"):
            total = px.sum(found, axis=1, dtype=dtype)
            return px.divide(total, float(len(self.roots))) if aggregate == "AVERAGE" else total
        extreme = px.min(found, axis=1) if aggregate == "MIN" else px.max(found, axis=1)
        return px.where(px.isfinite(extreme), extreme, 0)


def _at(table: Array, places: Array) -> Array:
    """The elements of a vector at places of any shape."""
    return px.take(table, places.reshape(-1), axis=0).reshape(places.shape)


def _neutral(aggregate: str) -> float:
    return {"MIN": np.inf, "MAX": -np.inf}.get(aggregate, 0.0)


# ---- TreeEnsemble (ai.onnx.ml 5)


def _number(node: OperatorNode, name: str, names: Sequence[str], default: int) -> int:
    """An attribute that is the number of one of the names. Raises InvalidArgumentError."""
    value = int(node.attribute(name, default))
    if not 0 <= value < len(names):
        allowed = ", ".join(f"{number} ({each})" for number, each in enumerate(names))
        raise InvalidArgumentError(f"{node}: {name} must be one of {allowed}; got {value}")
    return value


@operator("TreeEnsemble", domain=_DOMAIN)
def tree_ensemble(node: OperatorNode, x: Array) -> Array:
    """What the leaves that rows come to say of each target, aggregated."""
    scores = _new_forest(node).scores(x, _AGGREGATES[_number(node, "aggregate_function", _AGGREGATES, 1)], x.dtype)
    return post_transform(scores, _TRANSFORMS[_number(node, "post_transform", _TRANSFORMS, 0)])


def _new_forest(node: OperatorNode) -> Forest:
    modes = np.asarray(node.required("nodes_modes"), np.int64)
    count, targets = len(modes), np.asarray(node.required("leaf_targetids"))
    num_leaves = len(targets)
    leads = [
        np.where(np.asarray(node.required(f"nodes_{way}leafs")), count, 0) + node.required(f"nodes_{way}nodeids")
        for way in ("true", "false")
    ]
    ends = np.arange(count, count + num_leaves)
    votes = np.full((count + num_leaves, node.required("n_targets")), np.nan)
    votes[ends, targets] = node.required("leaf_weights")
    missing = node.attribute("nodes_missing_value_tracks_true") or [0] * count
    blank = np.zeros(num_leaves)
    return Forest(
        roots=np.asarray(node.required("tree_roots"), np.int64),
        feature=np.concatenate([node.required("nodes_featureids"), blank]).astype(np.int64),
        mode=np.concatenate([modes, blank]).astype(np.int64),
        split=np.concatenate([np.asarray(node.required("nodes_splits"), np.float64), blank]),
        true=np.concatenate([leads[0], ends]).astype(np.int64),
        false=np.concatenate([leads[1], ends]).astype(np.int64),
        missing_is_true=np.concatenate([missing, blank]).astype(np.bool_),
        members=_members(modes, node.attribute("membership_values"), count + num_leaves),
        votes=votes,
    )


def _members(modes: Numbers, values: Numbers | None, count: int) -> Numbers:
    """The sets of nodes that ask for membership: values in their order, with a NaN after each set."""
    if values is None:
        return np.full((count, 1), np.nan)
    ends = np.flatnonzero(np.isnan(values))
    sets = [part[~np.isnan(part)] for part in np.split(np.asarray(values, np.float64), ends)]
    result = np.full((count, max(1, *map(len, sets))), np.nan)
    for place, members in zip(np.flatnonzero(modes == _MEMBER), sets, strict=False):
        result[place, : len(members)] = members
    return result


# ---- the operators before it (ai.onnx.ml 1 to 4)


def _old_forest(attributes: Mapping[str, Any], votes_of: str, num_targets: int) -> Forest:
    """From nodes that name their tree and number; `votes_of` is "target" or "class"."""
    keys = list(zip(attributes["nodes_treeids"], attributes["nodes_nodeids"], strict=True))
    place = {key: number for number, key in enumerate(keys)}
    own = np.arange(len(keys))
    modes = attributes["nodes_modes"]
    inner = np.array([mode != "LEAF" for mode in modes])
    leads = [
        np.array([place[tree, to] if is_inner else number for number, ((tree, _), to, is_inner) in rows], np.int64)
        for rows in (
            enumerate(zip(keys, attributes[f"nodes_{way}nodeids"], inner, strict=True)) for way in ("true", "false")
        )
    ]
    reached = set(leads[0][inner]) | set(leads[1][inner])
    votes = np.full((len(keys), num_targets), np.nan)
    names = (f"{votes_of}_treeids", f"{votes_of}_nodeids", f"{votes_of}_ids")
    for tree, number, target, weight in zip(
        *(attributes[name] for name in names), _floats(attributes, f"{votes_of}_weights"), strict=True
    ):
        votes[place[tree, number], target] = np.nansum([votes[place[tree, number], target], weight])
    missing = attributes.get("nodes_missing_value_tracks_true") or [0] * len(keys)
    return Forest(
        roots=np.array([number for number in own if number not in reached], np.int64),
        feature=np.asarray(attributes["nodes_featureids"], np.int64),
        mode=np.array([_MODES.index(mode) if mode != "LEAF" else 0 for mode in modes], np.int64),
        split=np.asarray(_floats(attributes, "nodes_values"), np.float64),
        true=leads[0],
        false=leads[1],
        missing_is_true=np.asarray(missing, np.bool_),
        members=np.full((len(keys), 1), np.nan),
        votes=votes,
    )


def _floats(attributes: Mapping[str, Any], name: str) -> Sequence[float]:
    """Numbers given as a list (float32) or as a tensor."""
    tensor = attributes.get(f"{name}_as_tensor")
    return list(attributes.get(name) or ()) if tensor is None else np.asarray(tensor).reshape(-1).tolist()


def _based(scores: Array, node: OperatorNode) -> Array:
    base = _floats(node.attributes, "base_values")
    return px.add(scores, px.asarray(np.asarray(base, scores.dtype.numpy), device=node.device)) if base else scores


@operator("TreeEnsembleRegressor", domain=_DOMAIN)
def tree_ensemble_regressor(node: OperatorNode, x: Array) -> Array:
    """What the leaves that rows come to say of each target, aggregated, plus base values, as float32."""
    forest = _old_forest(node.attributes, "target", node.attribute("n_targets", 1))
    scores = forest.scores(x, choice(node, "aggregate_function", _AGGREGATES, "SUM"), dtypes.float32)
    return post_transform(_based(scores, node), node.attribute("post_transform", "NONE"))


@operator("TreeEnsembleClassifier", domain=_DOMAIN)
def tree_ensemble_classifier(node: OperatorNode, x: Array) -> tuple[Value, Array]:
    """The class that most votes of leaves are for, and the scores of all classes.

    Where all votes are for one class of two, its score decides: above one half if it is a probability (no vote is
    negative), else above 0. That of the first class alone then stands for the second, and the first has what is left.
    """
    names = labels(node, "classlabels_int64s", "classlabels_strings")
    forest = _old_forest(node.attributes, "class", len(names))
    scores = _based(forest.scores(x, "SUM", dtypes.float32), node)
    transform = node.attribute("post_transform", "NONE")
    voted = set(node.attribute("class_ids"))
    if len(names) != 2 or len(voted) != 1:
        return top_labels(node, px.argmax(scores, axis=1), names), post_transform(scores, transform)
    is_probability = all(weight >= 0 for weight in _floats(node.attributes, "class_weights"))
    score = scores[:, voted.pop()]
    second = px.astype(px.greater(score, 0.5 if is_probability else 0.0), dtypes.int64)
    if 0 in node.attribute("class_ids"):
        scores = both_classes(score, transform, is_probability=is_probability)
    else:
        scores = post_transform(scores, transform)
    return top_labels(node, second, names), scores
