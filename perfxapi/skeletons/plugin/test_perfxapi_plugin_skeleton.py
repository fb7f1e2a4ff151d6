"""The op's samples on its kernel, by the conformance kit. `perfxapi verify skeleton --op skeleton` prints the same."""

from perfxapi.testing import conformance_tests

test_skeleton = conformance_tests("skeleton", ops=("skeleton",))
