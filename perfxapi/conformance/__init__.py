"""The conformance kit: every op's samples run on a backend and are compared with the op's reference.

`verify("cpu")` gives a Report. Each case runs in a child process, with inaccessible pages before or after every
operand: a kernel that reads or writes out of range, crashes or hangs is named, and the rest is still checked.
"""

from perfxapi.conformance.cases import Case, all_cases
from perfxapi.conformance.check import check_case
from perfxapi.conformance.compare import Mismatch, compare
from perfxapi.conformance.report import Outcome, Report
from perfxapi.conformance.runner import verify

__all__ = ["Case", "Mismatch", "Outcome", "Report", "all_cases", "check_case", "compare", "verify"]
