"""Operators of classical machine learning, strings, sequences and random draws, against loops."""

import itertools
import math

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_files import FLOAT, model, port, run_node

from perfxapi.errors import InvalidArgumentError
from perfxapi.onnx import load

RNG = np.random.default_rng(4)
ML = {"domain": "ai.onnx.ml", "opset": 3}


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


# ---- trees

MODES = {
    "BRANCH_LEQ": lambda a, b: a <= b,
    "BRANCH_LT": lambda a, b: a < b,
    "BRANCH_GTE": lambda a, b: a >= b,
    "BRANCH_GT": lambda a, b: a > b,
    "BRANCH_EQ": lambda a, b: a == b,
    "BRANCH_NEQ": lambda a, b: a != b,
}


def random_trees(modes, count=4, features=3, depth=4):
    """Attributes of nodes: in each tree those of a random binary tree, numbered in order of a walk."""
    names = (
        "treeids",
        "nodeids",
        "featureids",
        "modes",
        "values",
        "truenodeids",
        "falsenodeids",
        "missing_value_tracks_true",
    )
    rows = {name: [] for name in names}
    for tree in range(count):
        rows_of = []

        def grow(level, rows_of=rows_of):
            number = len(rows_of)
            rows_of.append(None)
            leaf = level == depth or (level and RNG.random() < 0.3)
            split = float(np.float32(RNG.integers(-2, 3) / 2))
            children = (0, 0) if leaf else (grow(level + 1), grow(level + 1))
            mode = "LEAF" if leaf else str(RNG.choice(modes))
            rows_of[number] = (number, int(RNG.integers(features)), mode, split, *children, int(RNG.integers(2)))
            return number

        grow(0)
        for row in rows_of:
            for name, value in zip(names, (tree, *row), strict=True):
                rows[name].append(value)
    return {f"nodes_{name}": values for name, values in rows.items()}


def walk(trees, row):
    """The (tree, node) of every leaf that a row comes to."""
    place = {key: at for at, key in enumerate(zip(trees["nodes_treeids"], trees["nodes_nodeids"], strict=True))}
    for tree in sorted(set(trees["nodes_treeids"])):
        at = place[tree, 0]
        while (mode := trees["nodes_modes"][at]) != "LEAF":
            value = row[trees["nodes_featureids"][at]]
            if math.isnan(value):
                holds = bool(trees["nodes_missing_value_tracks_true"][at]) or mode == "BRANCH_NEQ"
            else:
                holds = MODES[mode](value, trees["nodes_values"][at])
            at = place[tree, trees["nodes_truenodeids" if holds else "nodes_falsenodeids"][at]]
        yield tree, trees["nodes_nodeids"][at]


def votes_of(trees, kind, targets):
    """Attributes of votes: one for each leaf and target."""
    leaves = [
        (tree, node)
        for tree, node, mode in zip(*(trees[f"nodes_{name}"] for name in ("treeids", "nodeids", "modes")), strict=True)
        if mode == "LEAF"
    ]
    rows = [(*leaf, target) for leaf in leaves for target in range(targets)]
    columns = [list(column) for column in zip(*rows, strict=True)]
    names = [f"{kind}_{name}" for name in ("treeids", "nodeids", "ids")]
    return {**dict(zip(names, columns, strict=True)), f"{kind}_weights": floats(len(rows)).tolist()}


def vote(trees, votes, kind, x, targets):
    """For each row and target the weights of the leaves it comes to."""
    columns = (votes[f"{kind}_{name}"] for name in ("treeids", "nodeids", "ids", "weights"))
    weight = {(tree, node, target): w for tree, node, target, w in zip(*columns, strict=True)}
    return np.array([[[weight[*leaf, t] for leaf in walk(trees, row)] for t in range(targets)] for row in x])


@pytest.mark.parametrize("modes", [["BRANCH_LEQ"], list(MODES)])
@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
def test_regression_trees(modes, aggregate):
    trees = random_trees(modes)
    votes = votes_of(trees, "target", 2)
    x = (RNG.integers(-3, 4, (40, 3)) / 2).astype(np.float32)
    x[::7, 1] = np.nan
    said = vote(trees, votes, "target", x.tolist(), 2)
    expected = {"SUM": np.sum, "AVERAGE": np.mean, "MIN": np.min, "MAX": np.max}[aggregate](said, axis=2) + [1, -1]
    more = {"n_targets": 2, "aggregate_function": aggregate, "base_values": [1.0, -1.0]}
    found = run_node("TreeEnsembleRegressor", x, **trees, **votes, **more, **ML)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("labels", [{"classlabels_int64s": [7, 8, 9]}, {"classlabels_strings": ["a", "b", "c"]}])
def test_classification_trees(labels):
    trees = random_trees(["BRANCH_LEQ"])
    votes = votes_of(trees, "class", 3)
    x = floats(30, 3)
    scores = vote(trees, votes, "class", x.tolist(), 3).sum(2)
    names = np.array(next(iter(labels.values())), object)
    chosen, found = run_node(
        "TreeEnsembleClassifier", x, outputs=2, post_transform="SOFTMAX", **trees, **votes, **labels, **ML
    )
    assert chosen.tolist() == names[scores.argmax(1)].tolist()
    powers = np.exp(scores)
    np.testing.assert_allclose(found, powers / powers.sum(1, keepdims=True), rtol=1e-5)


def test_trees_of_which_votes_are_for_one_class_of_two():
    trees = random_trees(["BRANCH_LT"])
    votes = votes_of(trees, "class", 1)
    x = floats(30, 3)
    positive = vote(trees, votes, "class", x.tolist(), 1).sum(2)[:, 0]
    chosen, found = run_node("TreeEnsembleClassifier", x, outputs=2, post_transform="LOGISTIC",
                             classlabels_int64s=[0, 1], **trees, **votes, **ML)  # fmt: skip
    assert chosen.tolist() == (positive > 0).astype(int).tolist()
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-np.stack([-positive, positive], 1))), rtol=1e-5)


# ---- linear and kernel models, preprocessing


def test_linear_models():
    x, weights, base = floats(5, 3), floats(2, 3), floats(2)
    scores = x @ weights.T + base
    attributes = {"coefficients": weights.reshape(-1).tolist(), "intercepts": base.tolist()}
    np.testing.assert_allclose(run_node("LinearRegressor", x, targets=2, **attributes, **ML), scores, rtol=1e-5)
    names, found = run_node("LinearClassifier", x, outputs=2, classlabels_strings=["n", "y"], **attributes, **ML)
    assert names.tolist() == np.array(["n", "y"])[scores.argmax(1)].tolist()
    np.testing.assert_allclose(found, scores, rtol=1e-5)
    single = {"coefficients": weights[0].tolist(), "intercepts": base[:1].tolist(), "classlabels_ints": [0, 1]}
    names, found = run_node("LinearClassifier", x, outputs=2, post_transform="LOGISTIC", **single, **ML)
    assert names.tolist() == (scores[:, 0] > 0).astype(int).tolist()
    np.testing.assert_allclose(found[:, 1], 1 / (1 + np.exp(-scores[:, 0])), rtol=1e-5)


@pytest.mark.parametrize("names", [{"classlabels_int64s": [3, 5]}, {"classlabels_strings": ["no", "yes"]}])
def test_scores_by_the_names_of_classes(names):
    """What scikit-learn's classifiers are saved as: labels, and a sequence of maps."""
    nodes = [
        helper.make_node("Scaler", ["x"], ["p"], domain="ai.onnx.ml", scale=[2.0]),
        helper.make_node("ZipMap", ["p"], ["maps"], domain="ai.onnx.ml", **names),
        helper.make_node("Neg", ["p"], ["y"]),
    ]
    key = TensorProto.INT64 if "classlabels_int64s" in names else TensorProto.STRING
    kind = helper.make_map_type_proto(key, helper.make_tensor_type_proto(FLOAT, []))
    maps = helper.make_value_info("maps", helper.make_sequence_type_proto(kind))
    made = model(nodes, [port("x", ["n", 2])], [maps, port("y")])
    made.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    found = load(made, "numpy")(np.array([[1, 2], [3, 4]], np.float32))
    first, second = next(iter(names.values()))
    assert found["maps"] == [{first: 2.0, second: 4.0}, {first: 6.0, second: 8.0}]
    assert np.asarray(found["y"]).tolist() == [[-2, -4], [-6, -8]]
    assert len(made.graph.output[0].type.sequence_type.elem_type.map_type.value_type.ListFields()) == 1


KERNELS = {
    "LINEAR": lambda x, v: x @ v,
    "POLY": lambda x, v: (0.5 * x @ v + 1) ** 3,
    "RBF": lambda x, v: np.exp(-0.5 * ((x - v) ** 2).sum()),
    "SIGMOID": lambda x, v: np.tanh(0.5 * x @ v + 1),
}


@pytest.mark.parametrize("kernel", KERNELS)
def test_support_vectors(kernel):
    x, vectors, weights = floats(5, 3), floats(4, 3), floats(4)
    expected = [[sum(w * KERNELS[kernel](row, v) for w, v in zip(weights, vectors, strict=True)) + 0.25] for row in x]
    attributes = {"coefficients": weights.tolist(), "support_vectors": vectors.reshape(-1).tolist(), "n_supports": 4,
                  "rho": [0.25], "kernel_type": kernel, "kernel_params": [0.5, 1.0, 3.0]}  # fmt: skip
    found = run_node("SVMRegressor", x, **attributes, **ML)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    signs = run_node("SVMRegressor", x, one_class=1, **attributes, **ML)
    assert signs.tolist() == np.where(np.array(expected) > 0, 1, -1).tolist()


@pytest.mark.parametrize(
    ("name", "size"), [("MAX", lambda r: r.max()), ("L1", lambda r: abs(r).sum()), ("L2", np.linalg.norm)]
)
def test_rows_are_normalized(name, size):
    x = np.abs(floats(4, 3))
    x[2] = 0
    expected = [row / (size(row) or 1) for row in x]
    np.testing.assert_allclose(run_node("Normalizer", x, norm=name, **ML), expected, rtol=1e-6)


def test_features_are_prepared():
    x = np.array([[1, np.nan], [np.nan, 4]], np.float32)
    imputed = run_node("Imputer", x, imputed_value_floats=[5.0, 6.0], replaced_value_float=math.nan, **ML)
    assert imputed.tolist() == [[1, 6], [5, 4]]
    scaled = run_node("Scaler", imputed, offset=[1.0, 2.0], scale=[2.0, 0.5], **ML)
    assert scaled.tolist() == [[0, 2], [8, 1]]
    joined = run_node("FeatureVectorizer", imputed, scaled, inputdimensions=[2, 2], **ML)
    np.testing.assert_array_equal(joined, np.concatenate([imputed, scaled], 1))
    hot = run_node("OneHotEncoder", np.array([3, 9, 5]), cats_int64s=[5, 3], **ML)
    assert hot.tolist() == [[0, 1], [0, 0], [1, 0]]
    words = run_node("OneHotEncoder", np.array(["b", "a"], object), cats_strings=["a", "b"], **ML)
    assert words.tolist() == [[0, 1], [1, 0]]
    with pytest.raises(InvalidArgumentError, match="none of the categories"):
        run_node("OneHotEncoder", np.array([9]), cats_int64s=[5, 3], zeros=0, **ML)


def test_labels():
    x = np.array([2.0, np.nan, 7.0], np.float32)
    more = {"keys_floats": [2.0, math.nan, 2.0], "domain": "ai.onnx.ml", "opset": 4}
    assert run_node("LabelEncoder", x, values_int64s=[1, 2, 3], default_int64=9, **more).tolist() == [3, 2, 9]
    assert run_node("LabelEncoder", x, values_strings=["a", "b", "c"], **more).tolist() == ["c", "b", "_Unused"]
    one = {"classes_strings": ["x", "y"], "domain": "ai.onnx.ml", "opset": 1}
    assert run_node("LabelEncoder", np.array(["y", "z"], object), **one).tolist() == [1, -1]
    assert run_node("LabelEncoder", np.array([1, 0]), **one).tolist() == ["y", "x"]
    category = {"cats_strings": ["x", "y"], "cats_int64s": [5, 6], **ML}
    assert run_node("CategoryMapper", np.array([6, 7]), **category).tolist() == ["y", "_Unused"]


# ---- strings and sequences


def test_n_grams_with_skips():
    row = [1, 2, 1, 3, 2, 1]
    pool, starts = [1, 3, 1, 2, 2, 1, 1, 1], [0, 2]
    reach = {"min_gram_length": 1, "max_gram_length": 2, "max_skip_count": 1}
    known = {"pool_int64s": pool, "ngram_counts": starts, "ngram_indexes": [4, 3, 2, 1, 0]}
    weights = [1.0, 2.0, 3.0, 4.0, 5.0]
    found = run_node("TfIdfVectorizer", np.array(row), mode="TFIDF", weights=weights, **reach, **known)
    pairs = [(row[i], row[j]) for i, j in itertools.combinations(range(6), 2) if j - i <= 2]
    counts = [row.count(1), row.count(3), *(pairs.count(pair) for pair in ((1, 2), (2, 1), (1, 1)))]
    assert found[::-1].tolist() == [count * weight for count, weight in zip(counts, weights, strict=True)]


def test_strings():
    x = np.array([["a b ", "c"], ["", " d  e f"]], object)
    parts, counts = run_node("StringSplit", x, outputs=2, maxsplit=1)
    assert counts.tolist() == [[2, 1], [0, 2]]
    assert parts.tolist() == [[["a", "b "], ["c", ""]], [["", ""], ["d", "e f"]]]
    kept = run_node("StringNormalizer", np.array(["The", "Cat"], object), stopwords=["the"], case_change_action="UPPER")
    assert kept.tolist() == ["CAT"]
    assert run_node("RegexFullMatch", np.array(["ab", "abc"], object), pattern="a.").tolist() == [True, False]


def test_a_sequence_is_split_and_joined():
    x = floats(5, 2)
    parts = run_node("SplitToSequence", x, np.array(2))
    assert [part.shape for part in parts] == [(2, 2), (2, 2), (1, 2)]
    nodes = [
        helper.make_node("SplitToSequence", ["x"], ["rows"], keepdims=0),
        helper.make_node("SequenceInsert", ["rows", "first", "zero"], ["more"]),
        helper.make_node("SequenceErase", ["more"], ["less"]),
        helper.make_node("ConcatFromSequence", ["less"], ["y"], axis=1, new_axis=1),
        helper.make_node("SequenceAt", ["less", "six"], ["z"]),
    ]
    constants = {"zero": np.array(0), "six": np.array(6), "first": np.array([7, 8], np.float32)}
    joined = load(model(nodes[:4], [port("x")], [port("y")], constants), "numpy")(x)["y"]
    np.testing.assert_array_equal(np.asarray(joined), np.concatenate([[[7, 8]], x[:-1]]).T)
    with pytest.raises(InvalidArgumentError, match="position 6 is outside a sequence of 5"):
        load(model(nodes, [port("x")], [port("z")], constants), "numpy")(x)


# ---- random draws


def test_draws_are_made_anew_or_again():
    shape = {"shape": [200, 50]}
    first, again = (run_node("RandomNormal", mean=3.0, scale=2.0, seed=1.0, **shape) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (first.dtype, abs(first.mean() - 3) < 0.1, abs(first.std() - 2) < 0.1) == (np.float32, True, True)
    assert (run_node("RandomNormal", **shape) != run_node("RandomNormal", **shape)).all()
    even = run_node("RandomUniform", low=-1.0, high=3.0, dtype=TensorProto.DOUBLE, **shape)
    assert (even.dtype, even.min() >= -1, even.max() < 3, abs(even.mean() - 1) < 0.1) == (np.float64, True, True, True)


def test_draws_with_probabilities():
    p = np.full((100, 100), 0.3, np.float32)
    hits = run_node("Bernoulli", p, dtype=TensorProto.BOOL)
    assert (hits.dtype, abs(hits.mean() - 0.3) < 0.05) == (np.bool_, True)
    classes = run_node("Multinomial", np.log(np.array([[0.5, 0.25, 0.25]])), sample_size=10_000)
    assert classes.dtype == np.int32
    assert np.abs(np.bincount(classes[0]) / 10_000 - [0.5, 0.25, 0.25]).max() < 0.05


def test_dropout_draws_in_training_alone():
    x = np.ones((100, 100), np.float32)
    same, kept = run_node("Dropout", x, outputs=2)
    assert (same == x).all()
    assert kept.all()
    dropped, kept = run_node("Dropout", x, np.float32(0.25), np.array(True), outputs=2)
    np.testing.assert_array_equal(dropped, np.where(kept, np.float32(1 / 0.75), 0))
    assert abs(kept.mean() - 0.75) < 0.05


def test_dropout_of_a_constant_draws_in_each_run():
    nodes = [helper.make_node("Dropout", ["w", "r", "t"], ["d"]), helper.make_node("Add", ["d", "x"], ["y"])]
    weights = {"w": np.ones(100, np.float32), "r": np.array(0.5, np.float32), "t": np.array(True)}
    loaded = load(model(nodes, [port("x", [100])], [port("y")], weights), device="numpy")
    first, second = (np.asarray(loaded(np.zeros(100, np.float32))["y"]) for _ in range(2))
    assert (first != second).any()
    assert {*first, *second} == {0.0, 2.0}
