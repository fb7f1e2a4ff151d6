"""One test for each op, made by the conformance kit. `perfxapi verify skeleton` prints the same as a table."""

from perfxapi.testing import conformance_tests

test_skeleton = conformance_tests("skeleton")
