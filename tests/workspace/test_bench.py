"""The arithmetic of `bench`: divergence, ratios, child processes, the tables."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import report
from bench.contenders import Speed, median_ratio
from bench.process import ContenderError, run
from bench.quality import compare
from bench.session import Record, summary


def reference_of(logits: np.ndarray, kept: int) -> dict[str, np.ndarray]:
    logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    ids = np.argsort(-logprobs, -1)[:, :kept]
    return {"ids_0": np.zeros(len(logits)), "top_ids_0": ids, "top_logprobs_0": np.take_along_axis(logprobs, ids, -1)}


def scores_of(logits: np.ndarray, reference: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    kept = np.take_along_axis(logprobs, reference["top_ids_0"], -1)
    return {"logprobs_0": kept, "top_0": logits.argmax(-1)}


def test_quality_of_the_reference_itself_is_perfect() -> None:
    logits = np.random.default_rng(0).standard_normal((5, 40)) * 3
    reference = reference_of(logits, 8)
    quality = compare(reference, scores_of(logits, reference))
    assert quality.mean_kl == pytest.approx(0, abs=1e-12)
    assert quality.top1_agreement == 1


def test_divergence_is_that_of_the_bucketed_distributions() -> None:
    true, other = np.log([[0.5, 0.3, 0.1, 0.1]]), np.log([[0.2, 0.4, 0.3, 0.1]])
    reference = reference_of(true, 2)
    quality = compare(reference, scores_of(other, reference))
    expected = 0.5 * math.log(0.5 / 0.2) + 0.3 * math.log(0.3 / 0.4) + 0.2 * math.log(0.2 / 0.4)
    assert quality.mean_kl == pytest.approx(expected, rel=1e-12)
    assert quality.top1_agreement == 0


def test_divergence_agrees_with_that_of_perfxlm_eval() -> None:
    from perfxlm.evaluation import divergence

    rng = np.random.default_rng(1)
    true, other = rng.standard_normal((2, 7, 300)) * 4
    reference = reference_of(true, 32)
    quality = compare(reference, scores_of(other, reference))
    theirs = [
        divergence(ids.astype(np.int32), logprobs.astype(np.float32), logits.astype(np.float32))
        for ids, logprobs, logits in zip(reference["top_ids_0"], reference["top_logprobs_0"], other, strict=True)
    ]
    assert quality.mean_kl == pytest.approx(np.mean(theirs), rel=1e-5)


def test_ratios_are_taken_pair_by_pair() -> None:
    assert median_ratio([10, 100, 30], [5, 20, 30]) == 2


def test_a_child_reports_its_output_time_and_memory() -> None:
    finished = run(
        [sys.executable, "-c", "x = bytearray(80_000_000); print('words'); print('{\"a\": [1,'); print(' 2]}')"]
    )
    assert finished.json() == {"a": [1, 2]}
    assert finished.seconds > 0
    assert finished.peak_memory_bytes > 80_000_000


def test_a_child_that_fails_is_named_with_its_last_words() -> None:
    with pytest.raises(ContenderError, match="ended with 3: no luck"):
        run([sys.executable, "-c", "import sys; print('no luck', file=sys.stderr); sys.exit(3)"])
    with pytest.raises(ContenderError, match="No such file"):
        run(["./no-such-program"])


def make_result() -> dict[str, object]:
    ours = Record("PerfXLM", speeds=[Speed(2000.0, 200.0, 400_000_000), Speed(1900.0, 190.0, 400_000_000)])
    peer = Record("llama.cpp", speeds=[Speed(1000.0, 100.0, 500_000_000), Speed(1000.0, 100.0, 500_000_000)])
    absent = Record("OpenVINO GenAI", problem="its model folder was not named")
    machine = {
        "processor": "P", "instruction_sets": ["avx2"], "usable_processors": 2, "memory_gib": 8.0, "system": "Linux",
        "python": "3.11", "versions": {"perfxlm": "0.1.0"}, "commit": "abc",
    }  # fmt: skip
    load = {"model": "m", "threads": 2, "prompt_tokens": 512, "gen_tokens": 128, "context": 2048}
    engines = [summary(record, ours) for record in (ours, peer, absent)]
    return {"date": "2026-01-01", "machine": machine, "load": load, "engines": engines}


def test_tables_show_medians_ratios_and_what_was_not_measured() -> None:
    rows = report.speed_table(make_result()).splitlines()
    assert rows[2] == "| PerfXLM | 1950 | 1 | 195.0 | 1 | 400 | not measured |"
    assert rows[3] == "| llama.cpp | 1000 | 1.95 | 100.0 | 1.95 | 500 | not measured |"
    assert rows[4].count("not measured") == 6
    assert "- OpenVINO GenAI: its model folder was not named" in report.page(make_result(), "cpu")


def test_only_what_stands_between_the_marks_of_the_readme_changes(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.fill_readme(readme, make_result(), "cpu.md")
    text = readme.read_text()
    assert text.startswith(f"before\n{report.BEGIN}\nP (avx2), 2 usable processors")
    assert text.endswith(f"{report.END}\nafter\n")
    assert "old" not in text
