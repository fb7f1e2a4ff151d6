"""The table of what ran where."""

from __future__ import annotations

import json

import numpy as np

import perfxapi as px
from perfxapi.ledger import Ledger


def test_rows_count_and_fallbacks_come_first() -> None:
    ledger = Ledger()
    ledger.row("add", "cpu:0", "cpu:0").count += 5
    row = ledger.row("exp", "cpu:0", "numpy:0", "no kernel")
    row.count += 1
    row.bytes_moved += 10
    ledger.row("never", "cpu:0", "cpu:0")
    found = ledger.explain()
    assert [(r.op, r.count) for r in found.rows] == [("exp", 1), ("add", 5)]
    assert [r.reason for r in found.fallbacks] == ["no kernel"]
    assert json.loads(found.to_json())[0]["bytes_moved"] == 10
    lines = str(found).splitlines()
    assert lines[0].split() == ["op", "asked", "ran", "on", "count", "bytes", "moved", "reason"]
    assert lines[2].split() == ["exp", "cpu:0", "numpy:0", "1", "10", "no", "kernel"]


def test_an_explanation_does_not_change_afterwards() -> None:
    ledger = Ledger()
    row = ledger.row("add", "cpu:0", "cpu:0")
    row.count = 1
    found = ledger.explain()
    row.count = 2
    assert found.rows[0].count == 1


def test_counting_anew_keeps_the_rows_that_plans_hold() -> None:
    x = px.asarray(np.ones(3, np.float32), device="numpy")
    px.nn.exp(x)
    px.reset_explain()
    assert px.explain().rows == []
    px.nn.exp(x)
    assert [row.count for row in px.explain().rows] == [1]
