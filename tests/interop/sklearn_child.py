"""Run in a process of its own, with SCIPY_ARRAY_API=1: scikit-learn with arrays of ours beside NumPy's.

Prints {name: outcome}: of each estimator's method that was tried, and of each metric, "ok" or what is wrong.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy_calls import words
from sklearn import (
    decomposition,
    discriminant_analysis,
    kernel_approximation,
    linear_model,
    metrics,
    mixture,
    naive_bayes,
    preprocessing,
    set_config,
)
from sklearn.model_selection import train_test_split

import perfxapi as px

DEVICE = "cpu"
METHODS = (
    "predict", "predict_proba", "predict_log_proba", "decision_function", "transform", "inverse_transform",
    "score_samples", "score",
)  # fmt: skip

_rng = np.random.default_rng(0)
X = _rng.standard_normal((60, 5))
X[:30] += 1.5
CLASSES = np.repeat([0, 1, 2], 20)
TWO = np.repeat([0, 1], 30)
TARGET = X @ np.arange(5.0) + 1
KERNEL = X @ X.T
GUESS = np.roll(TWO, 4)
CHANCE = np.clip(0.5 + 0.3 * X[:, 0], 0.01, 0.99)

Estimator = tuple[Callable[[], Any], tuple[Any, ...]]
ESTIMATORS: dict[str, Estimator] = {
    "PCA(full)": (lambda: decomposition.PCA(3, svd_solver="full"), (X,)),
    "PCA(covariance_eigh)": (lambda: decomposition.PCA(3, svd_solver="covariance_eigh"), (X,)),
    "PCA(randomized)": (
        lambda: decomposition.PCA(3, svd_solver="randomized", power_iteration_normalizer="QR", random_state=0),
        (X,),
    ),
    "Ridge": (lambda: linear_model.Ridge(solver="svd"), (X, TARGET)),
    "RidgeCV": (lambda: linear_model.RidgeCV(), (X, TARGET)),
    "RidgeClassifier": (lambda: linear_model.RidgeClassifier(solver="svd"), (X, CLASSES)),
    "RidgeClassifierCV": (lambda: linear_model.RidgeClassifierCV(), (X, CLASSES)),
    "LogisticRegression": (lambda: linear_model.LogisticRegression(), (X, CLASSES)),
    "PoissonRegressor": (lambda: linear_model.PoissonRegressor(), (X, np.abs(TARGET))),
    "LinearDiscriminantAnalysis": (discriminant_analysis.LinearDiscriminantAnalysis, (X, CLASSES)),
    "GaussianMixture": (lambda: mixture.GaussianMixture(2, init_params="random_from_data", random_state=0), (X,)),
    "GaussianNB": (naive_bayes.GaussianNB, (X, CLASSES)),
    "Nystroem": (lambda: kernel_approximation.Nystroem(n_components=8, random_state=0), (X,)),
    "Binarizer": (preprocessing.Binarizer, (X,)),
    "KernelCenterer": (preprocessing.KernelCenterer, (KERNEL,)),
    "LabelBinarizer": (preprocessing.LabelBinarizer, (CLASSES,)),
    "LabelEncoder": (preprocessing.LabelEncoder, (CLASSES,)),
    "MaxAbsScaler": (preprocessing.MaxAbsScaler, (X,)),
    "MinMaxScaler": (preprocessing.MinMaxScaler, (X,)),
    "Normalizer": (preprocessing.Normalizer, (X,)),
    "PolynomialFeatures": (preprocessing.PolynomialFeatures, (X,)),
    "StandardScaler": (preprocessing.StandardScaler, (X,)),
}

_REGRESSION = words(
    "explained_variance_score max_error mean_absolute_error mean_squared_error median_absolute_error r2_score "
    "root_mean_squared_error mean_pinball_loss d2_pinball_score"
)
_POSITIVE = words(
    "mean_absolute_percentage_error mean_squared_log_error mean_tweedie_deviance d2_tweedie_score "
    "root_mean_squared_log_error mean_gamma_deviance mean_poisson_deviance"
)
_CLASSES = words(
    "accuracy_score balanced_accuracy_score cohen_kappa_score confusion_matrix f1_score hamming_loss "
    "jaccard_score multilabel_confusion_matrix precision_recall_fscore_support precision_score "
    "recall_score zero_one_loss"
)
_CHANCES = words(
    "average_precision_score brier_score_loss d2_brier_score d2_log_loss_score det_curve log_loss roc_curve"
)
_PAIRS = words(
    "additive_chi2_kernel chi2_kernel cosine_distances cosine_similarity euclidean_distances laplacian_kernel "
    "linear_kernel manhattan_distances polynomial_kernel rbf_kernel sigmoid_kernel"
)
METRICS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(_REGRESSION, (TARGET, TARGET[::-1].copy())),
    **dict.fromkeys(_POSITIVE, (np.abs(TARGET) + 1, np.abs(TARGET[::-1]) + 1)),
    **dict.fromkeys(_CLASSES, (TWO, GUESS)),
    **dict.fromkeys(_CHANCES, (TWO, CHANCE)),
    **dict.fromkeys(("calinski_harabasz_score", "davies_bouldin_score"), (X, CLASSES)),
    **dict.fromkeys(_PAIRS, (np.abs(X[:8]), np.abs(X[8:20]))),
}


def ours(value: Any) -> Any:
    """An array of ours."""
    return px.asarray(value.copy(), device=DEVICE)


def compared(got: Any, expected: Any) -> str:
    """ "ok", or how a result differs from NumPy's."""
    mine = got if isinstance(got, tuple | list) else (got,)
    theirs = expected if isinstance(expected, tuple | list) else (expected,)
    for a, b in zip(mine, theirs, strict=True):
        if isinstance(b, np.ndarray) and not isinstance(a, px.Array):
            return "NumPy's array comes back"
        if isinstance(a, px.Array) and a.device.kind != DEVICE:
            return f"it comes back on {a.device}"
        if not np.allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=1e-6, atol=1e-8):
            return f"it differs by {np.abs(np.asarray(a) - np.asarray(b)).max()}"
    return "ok"


def tried(function: Callable[[], Any], expected: Any) -> str:
    """The outcome of a call."""
    try:
        return compared(function(), expected)
    except Exception as error:  # whatever goes wrong is what is to be told
        return f"{type(error).__name__}: {error}".splitlines()[0]


def of_estimator(name: str, make: Callable[[], Any], operands: tuple[Any, ...]) -> Iterator[tuple[str, str]]:
    """The outcome of each method after fitting on NumPy's arrays, and on ours."""
    theirs, mine = make().fit(*operands), make()
    yield f"{name}.fit", tried(lambda: mine.fit(*map(ours, operands)) and (), ())
    for method in METHODS:
        if not hasattr(theirs, method):
            continue
        operand = theirs.transform(operands[0]) if method == "inverse_transform" else operands[0]
        arguments = (operand, *operands[1:]) if method == "score" else (operand,)
        expected = getattr(theirs, method)(*arguments)
        run = lambda method=method, arguments=arguments: getattr(mine, method)(*map(ours, arguments))  # noqa: E731
        yield f"{name}.{method}", tried(run, expected)


def outcomes() -> Iterator[tuple[str, str]]:
    """All of them."""
    for name, (make, operands) in ESTIMATORS.items():
        yield from of_estimator(name, make, operands)
    for name, operands in METRICS.items():
        function = getattr(metrics, name, None) or getattr(metrics.pairwise, name)
        run = lambda function=function, operands=operands: function(*map(ours, operands))  # noqa: E731
        yield name, tried(run, function(*operands))
    parts = train_test_split(X, TARGET, random_state=0)
    yield "train_test_split", tried(lambda: train_test_split(ours(X), ours(TARGET), random_state=0), parts)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    set_config(array_api_dispatch=True)
    json.dump(dict(outcomes()), sys.stdout)
