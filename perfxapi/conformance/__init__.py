"""The conformance kit: every op's samples run on a backend and are compared with the op's reference.

`verify("cpu")` gives a Report; `perfxapi verify cpu` prints it; `perfxapi.testing` makes a pytest test of each op.
Each case runs in a child process, its operands between inaccessible pages and zones of known bytes: a kernel that
reads or writes out of range, crashes or hangs is named, and the rest is still checked.
"""

from perfxapi.conformance.cases import Case, all_cases
from perfxapi.conformance.check import check_case
from perfxapi.conformance.compare import Mismatch, compare
from perfxapi.conformance.profiles import PROFILES, Profile
from perfxapi.conformance.report import PLAIN, Outcome, Report
from perfxapi.conformance.runner import verify

__all__ = [
    "PLAIN",
    "PROFILES",
    "Case",
    "Mismatch",
    "Outcome",
    "Profile",
    "Report",
    "all_cases",
    "check_case",
    "compare",
    "verify",
]
