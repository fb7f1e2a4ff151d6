"""The conformance kit under pytest, for the repository of a backend or plugin: one line, one test for each op.

    from perfxapi.testing import conformance_tests

    test_demo = conformance_tests("demo")

An op that the backend declines altogether is skipped with the reason, unless the profile requires it. This is a
function and no plugin of pytest: those are imported, and would bring NumPy along, in every run on a machine that has
the core.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from perfxapi.conformance import PLAIN, Report, verify
from perfxapi.ops.spec import all_ops

__all__ = ["conformance_tests"]


def conformance_tests(
    backend: str, *, profile: str = "minimal", ops: Sequence[str] | None = None, seconds: float = 20.0
) -> Callable[[str, pytest.FixtureRequest], None]:
    """A test function with a parameter for each op (default: all), and one for the profile as a whole.

    The arguments are those of `perfxapi.conformance.verify`: of each op in `ops` the backend must run a sample, which
    the test of the whole demands. The ops that pytest selects (`-k softmax`) are verified
    together when the first of their tests runs, and no others.
    """
    whole = f"profile {profile}"
    names = [*(ops if ops is not None else (spec.name for spec in all_ops())), whole]
    reports: list[Report] = []

    @pytest.mark.parametrize("op", names)
    def test(op: str, request: pytest.FixtureRequest) -> None:
        if not reports:
            items = [item for item in request.session.items if getattr(item, "function", None) is test]
            selected = [name for item in items if (name := item.callspec.params["op"]) != whole]  # type: ignore[attr-defined]
            report = verify(backend, selected or ops, profile=profile, seconds=seconds)
            if ops is None:  # then nobody has named those that are selected
                report.ops = ()
            reports.append(report)
        if op == whole:
            _judge_profile(reports[0])
        else:
            _judge_op(reports[0], op)

    return test


def _judge_op(report: Report, op: str) -> None:
    problems = [outcome for outcome in (*report.failures, *report.missing) if outcome.op == op]
    if problems:
        pytest.fail("\n".join(map(str, problems)), pytrace=False)
    if not report.native_samples(op)[0]:
        declined = (o.detail for o in report.outcomes if o.op == op and o.arrangement == PLAIN)
        pytest.skip(next(declined, "the op has no samples"))


def _judge_profile(report: Report) -> None:
    if not report.passed:
        pytest.fail(report.summary(), pytrace=False)
