"""What does not work with arrays of ours, and why; and the table of docs/array-api.md."""

from __future__ import annotations

from collections.abc import Mapping

SKLEARN = "scikit-learn"
KNOWN = {
    "scipy.signal.bode": "SciPy returns NumPy arrays",
    "scipy.signal.cspline2d": "SciPy returns NumPy arrays",
    "scipy.signal.impulse": "SciPy returns NumPy arrays",
    "scipy.signal.minimum_phase": "SciPy asks for `.real`, which the standard does not have",
    "scikit-learn.balanced_accuracy_score": "scikit-learn divides integers, which the standard leaves open",
    "scikit-learn.roc_curve": "scikit-learn gives `diff` a second argument by place",
}
"""By the full name of a function, why it does not take arrays of ours, or does not return them."""


def table(outcomes: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The lines of the table: how many functions of each namespace were tried and work, and which do not."""
    lines = ["| namespace | tried | work | do not |", "| --- | --- | --- | --- |"]
    for namespace, found in outcomes.items():
        wrong = [name for name, outcome in found.items() if outcome != "ok"]
        reasons = "; ".join(f"`{name}`: {KNOWN[f'{namespace}.{name}']}" for name in wrong)
        lines.append(f"| `{namespace}` | {len(found)} | {len(found) - len(wrong)} | {reasons} |")
    return lines
