"""The report of `bench`: alternation, limits, merging, tables, the page; and what is said where a figure is missing."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bench import limits, plots, report, results, tables, yardstick
from bench.loads import ALL_LOGITS, DECODE, GREEDY, PREFILL, Load, Model, Speed
from bench.parts import PARTS
from bench.parts.more import table_of
from bench.parts.settings import SkippedPartError
from bench.parts.speed import series_of
from bench.peers import LlamaBench, LlamaCpp, OpenVINO
from bench.process import ContenderError
from bench.session import NOT_OFFERED, Session

MACHINE = {
    "processor": "P", "instruction_sets": ["avx2"], "usable_processors": 2, "memory_gib": 8.0, "system": "Linux",
    "load_average": 0.1, "python": "3.11", "versions": {"perfxlm": "0.1.0"}, "commit": "abc",
}  # fmt: skip
YARDSTICK = {
    "one": {"threads": 1, "read_bytes": 1e9, "float32_operations": 1e11, "int8_operations": 4e11},
    "all": {"threads": 2, "read_bytes": 2e9, "float32_operations": 2e11, "int8_operations": 8e11},
}


def kernel(op: str, seconds: float, stored: int, operations: int, arithmetic: str = "int16") -> dict[str, Any]:
    return {
        "op": op, "detail": "q8_0 4 x 4", "arithmetic": arithmetic, "count": 2, "seconds": seconds,
        "nbytes": stored, "stored_bytes": stored, "operations": operations,
    }  # fmt: skip


@dataclass
class Engine:
    """A contender that gives the figures it was made with."""

    name: str
    figures: list[dict[str, float] | Exception | None] = field(default_factory=list)
    reason: str = ""
    order: list[str] = field(default_factory=list)

    def problem(self) -> str:
        return self.reason

    def next_speed(self) -> Speed | None:
        self.order.append(self.name)
        figure = self.figures.pop(0)
        if isinstance(figure, Exception):
            raise figure
        return figure and Speed(figure, 500_000_000, {"version": "7", "options": "-x"})


def engines() -> list[Engine]:
    order: list[str] = []
    return [
        Engine("PerfXLM", [{ALL_LOGITS: 20.0, GREEDY: 40.0}, {ALL_LOGITS: 10.0, GREEDY: 30.0}], order=order),
        Engine("llama.cpp", [{ALL_LOGITS: 10.0}, {ALL_LOGITS: 10.0}], order=order),
        Engine("ik_llama.cpp", [{ALL_LOGITS: 5.0}, ContenderError("it fell")], order=order),
        Engine("batcher", [None], order=order),
        Engine("OpenVINO GenAI", reason="openvino_genai is not installed", order=order),
    ]


def decode_part() -> dict[str, Any]:
    load = Load(DECODE, 16, 128)
    session = Session(engines(), 2, lambda line: None)  # type: ignore[arg-type]
    records = session.alternate(load.title, lambda engine: engine.next_speed())  # type: ignore[attr-defined]
    case = {
        "kind": load.kind, "context": 16, "gen_tokens": 128, "batch": 1, "title": load.title,
        "kernels": [kernel("linear", 0.03, 40_000_000, 10)],
        "series": [series for record in records for series in series_of(record, load)],
    }  # fmt: skip
    return part(cases=[case], yardstick=YARDSTICK)


def part(**values: Any) -> dict[str, Any]:
    stamp = {"date": "2026-01-01", "machine": MACHINE, "threads": 2, "model": "m.gguf", "rounds": 2, "repeats": 3}
    return {**stamp, **values}


def found(**parts: dict[str, Any]) -> dict[str, Any]:
    return {"parts": parts}


def test_engines_run_in_alternation_and_one_that_fails_is_dropped() -> None:
    contenders = engines()
    session = Session(contenders, 2, lambda line: None)  # type: ignore[arg-type]
    records = session.alternate("load", lambda engine: engine.next_speed())  # type: ignore[attr-defined]
    assert contenders[0].order == [
        "PerfXLM", "llama.cpp", "ik_llama.cpp", "batcher", "ik_llama.cpp", "llama.cpp", "PerfXLM",
    ]  # fmt: skip
    assert [len(record.results) for record in records] == [2, 2, 0, 0, 0]
    assert [record.problem for record in records] == [
        "", "", "it fell", NOT_OFFERED, "openvino_genai is not installed",
    ]  # fmt: skip


def test_ratios_are_taken_round_by_round() -> None:
    assert tables.median_ratio([10, 100, 30], [5, 20, 30]) == 2
    assert tables.median_ratio([10, 100], [5]) is None
    assert tables.median_ratio([], []) is None


def test_a_limit_is_the_larger_of_reading_and_computing_summed_over_kernels() -> None:
    reads, computes = kernel("linear", 1, 20_000_000, 4), kernel("linear", 1, 8, 4_000_000_000)
    assert limits.kernel_seconds(reads, YARDSTICK) == pytest.approx(0.01)
    assert limits.kernel_seconds(computes, YARDSTICK) == pytest.approx(0.01)  # int16: half of the int8 peak
    assert limits.kernel_seconds(kernel("attention", 1, 0, 10**9, "float32"), YARDSTICK) == pytest.approx(0.005)
    decode = {"kind": "decode", "context": 16, "batch": 4}
    assert limits.tokens_per_second(decode, [reads, computes], YARDSTICK) == pytest.approx(4 / 0.02)
    prefill = {"kind": "prefill", "context": 512, "batch": 1}
    assert limits.tokens_per_second(prefill, [reads, computes], YARDSTICK) == pytest.approx(512 / 0.02)
    assert limits.tokens_per_second(prefill, [], YARDSTICK) is None
    assert limits.tokens_per_second(prefill, [reads], {}) is None


def test_an_unknown_peak_leaves_the_limit_of_reading() -> None:
    unknown = {"all": {**YARDSTICK["all"], "float32_operations": 0, "int8_operations": 0}}
    assert limits.kernel_seconds(kernel("linear", 1, 20_000_000, 10**12), unknown) == pytest.approx(0.01)


def test_the_better_of_two_measurements_of_the_machine_counts() -> None:
    slower = {name: {key: value / 2 for key, value in values.items()} for name, values in YARDSTICK.items()}
    slower["one"]["read_bytes"] = 3e9
    best = yardstick.best(YARDSTICK, slower)
    assert best["one"]["read_bytes"] == 3e9
    assert best["all"] == YARDSTICK["all"]
    assert yardstick.best(YARDSTICK, {}) == YARDSTICK


def test_the_yardstick_measures_this_machine() -> None:
    figures = yardstick.measure(2)
    assert (figures["one"]["threads"], figures["all"]["threads"]) == (1, 2)
    assert 1e8 < figures["one"]["read_bytes"] < 1e13
    assert figures["all"]["int8_operations"] >= 0


def test_speeds_stand_beside_ratios_limits_and_what_was_not_measured() -> None:
    rows = tables.speed_table(decode_part()).splitlines()
    title = "128 tokens decoded after 16"
    assert rows[2] == f"| {title} | PerfXLM, all logits | 15.0 |  |  | 30% |"
    assert rows[3] == f"| {title} | PerfXLM, greedy | 35.0 |  |  | 70% |"
    assert rows[4] == f"| {title} | llama.cpp, all logits | 10.0 | 3.50 | 1.50 |  |"
    missing = "not measured"
    for row, name in zip(rows[5:], ("ik_llama.cpp", "batcher", "OpenVINO GenAI"), strict=True):
        assert row == f"| {title} | {name}, all logits | {missing} | {missing} | {missing} |  |"
    assert tables.limit_table(decode_part()).splitlines()[2] == f"| {title} | 40.0 | 0.00 | 50.0 |"


def test_activations_of_8_bits_have_ratios_of_their_own_and_no_limit() -> None:
    def series(name: str, speed: float) -> dict[str, Any]:
        return {"name": name, "mode": "", "problem": "", "runs": [speed], "tokens_per_second": speed, "extra": {}}

    engines = [series("PerfXLM", 30.0), series("PerfXLM int8", 40.0), series("llama.cpp", 10.0)]
    case = {"kind": "prefill", "context": 512, "batch": 1, "title": "512", "kernels": [], "series": engines}
    rows = tables.speed_table({"cases": [case], "yardstick": YARDSTICK}).splitlines()
    assert rows[0] == "| load | engine | tokens/s | PerfXLM / it | PerfXLM int8 / it | of the limit |"
    assert rows[3] == "| 512 | PerfXLM int8 | 40.0 |  |  |  |"
    assert rows[4] == "| 512 | llama.cpp | 10.0 | 3.00 | 4.00 |  |"
    part = {**decode_part(), "cases": [case]}
    assert (
        report.page({"parts": {"prefill": part}}, "cpu", "{{prefill.512.ours}} {{prefill.512.int8.ours}}")
        == "30.0 40.0"
    )


def test_kernels_stand_beside_their_limits_longest_first() -> None:
    kernels = [kernel("linear", 0.02, 20_000_000, 10), kernel("norm", 0.06, 0, 0, "float32")]
    rows = tables.kernel_table({"profiles": {"decode": kernels}, "yardstick": YARDSTICK}, "decode").splitlines()
    assert rows[2] == "| 2 x norm | q8_0 4 x 4 | 60000 | 75.0% | 0.0 | 0 |  |"
    assert rows[3] == "| 2 x linear | q8_0 4 x 4 | 20000 | 25.0% | 1.0 | 0 | 50% |"


def test_tables_of_other_modules_keep_their_names_and_gaps() -> None:
    text = tables.rows_table({"rows": [{"op": "a|b", "ns": 1.23456}, {"op": "c", "bytes": 7}]})
    assert text.splitlines()[0] == "| op | ns | bytes |"
    assert text.splitlines()[2:] == ["| a\\|b | 1.235 | not measured |", "| c | not measured | 7 |"]


def test_a_part_measured_anew_replaces_that_part_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "cpu.json"
    assert results.read(path) == {"parts": {}}
    for name, date in (("decode", "first"), ("matrix", "second"), ("decode", "third")):
        results.write(results.merged(results.read(path), name, {"date": date}), path)
    assert results.read(path) == found(decode={"date": "third"}, matrix={"date": "second"})
    assert [child.name for child in path.parent.iterdir()] == ["cpu.json"]
    path.write_text(json.dumps({"engines": []}))
    assert results.read(path) == {"parts": {}}


def test_the_page_says_what_is_missing_and_why() -> None:
    text = report.page(found(decode=decode_part()), "cpu")
    assert "35.0 tokens/s greedily and 15.0 with all logits" in text
    assert "allows 50.0: 30% of the limit. llama.cpp: 10.0,\nik_llama.cpp: not measured" in text
    assert "OpenVINO GenAI: not measured. Prompts of 512 tokens:\n*not measured* tokens/s" in text
    assert "- ik_llama.cpp (decode): it fell" in text
    assert "- OpenVINO GenAI (decode): openvino_genai is not installed" in text
    assert "- matrix: this part was not run" in text
    assert "perfxlm 0.1.0, Python 3.11, PerfXLM 7 -x, llama.cpp 7 -x." in text
    assert "{{" not in text


def test_the_template_names_every_part_and_no_other() -> None:
    template = report.TEMPLATE.read_text()
    assert all(f"{{{{{name}." in template for name in PARTS)
    assert set(PARTS) == {*report.SPEED_PARTS, *report.TABLES}
    with pytest.raises(KeyError, match=r"decoding\.table"):
        report.page(found(), "cpu", "{{decoding.table}}")


def test_every_part_fills_its_places() -> None:
    prefill = decode_part()
    prefill["cases"][0] |= {"kind": PREFILL, "context": 512}
    quality = [{"name": "A", "text": "t", "problem": "", "mean_kl": 1e-6, "p99_kl": 2e-5, "top1_agreement": 0.999}]
    others = {
        "quality": part(rows=[*quality, {"name": "B", "text": "t", "problem": NOT_OFFERED}]),
        "start": part(
            engines=[{"name": "A", "problem": "", "first_token_seconds": 1.5}],
            memory={"length": 2048, "engines": [{"name": "A", "problem": ""}, {"name": "B", "peak_memory_bytes": 4e8}]},
            prompt="Hi",
        ),
        "roofline": part(profiles={"decode": [kernel("linear", 1, 1, 1)]}, yardstick=YARDSTICK),
        "matrix": part(rows=[{"format": "q8_0"}]),
    }
    text = report.page(found(decode=decode_part(), prefill=prefill, **others), "cpu")
    assert "| A | t | 1e-06 | 2e-05 | 99.9% |\n| B | t | not measured | not measured | not measured |" in text
    assert "from its start: “Hi”, one token" in text
    assert "| A | 1.50 |\n" in text
    assert "peak memory at 2,048 tokens, MB |\n| --- | --- |\n| A | not measured |\n| B | 400 |" in text
    table = report.short_table(found(decode=decode_part(), **others))
    assert "| A | not measured | not measured | not measured | 1.50 |" in table
    assert "| 2 | 2.0 | 200 | 800 |" in text
    assert "### decode\n\n| kernel |" in text
    assert "| format |\n| --- |\n| q8_0 |" in text


def test_only_what_stands_between_the_marks_of_the_readme_changes(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.MARKS[0]}old\n{report.MARKS[1]}\nafter\n")
    report.fill_readme(readme, found(), "cpu.md")
    assert "old" in readme.read_text()
    report.fill_readme(readme, found(decode=decode_part()), "cpu.md")
    text = readme.read_text()
    assert text.startswith(f"before\n{report.MARKS[0]}*2026-01-01, commit abc: P (avx2), 2 usable processors")
    assert text.endswith(f"{report.MARKS[1]}\nafter\n")
    assert "| PerfXLM | 15.0 (all logits), 35.0 (greedy) | not measured | not measured | not measured |" in text
    assert "| OpenVINO GenAI | not measured | not measured | not measured | not measured |" in text
    assert "old" not in text


def test_plots_are_drawn_for_the_parts_that_are_there(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="in the dependency group bench")
    longer = decode_part()
    longer["cases"][0] |= {"context": 1024}
    kernels = {"decode": [kernel("linear", 1, 10, 10), kernel("norm", 1, 0, 0, "float32")]}
    roofline = part(profiles=kernels, yardstick=YARDSTICK)
    written = plots.draw(found(decode=decode_part(), context=longer, roofline=roofline), tmp_path, "cpu")
    assert [path.name for path in written] == ["cpu.png", "cpu_context.png", "cpu_roofline.png"]
    assert all(path.read_bytes()[:4] == b"\x89PNG" and path.stat().st_size < 200_000 for path in written)
    assert plots.draw(found(), tmp_path, "none") == []


def test_peers_say_why_they_cannot_be_measured(tmp_path: Path) -> None:
    model = Model("m", tmp_path / "m.gguf", threads=2, repeats=1)
    assert LlamaCpp("no-such-python").problem() == "no-such-python: No such file or directory"
    assert LlamaBench("ik", None).problem() == "its llama-bench was not named"
    assert LlamaBench("ik", tmp_path / "llama-bench").problem() == "llama-bench is not a file"
    with pytest.raises(ContenderError, match="was not named"):
        OpenVINO("python").speed(model, Load(DECODE, 16, 8))
    assert LlamaBench("ik", tmp_path).speed(model, Load(DECODE, 16, 8, batch=4)) is None


@pytest.mark.parametrize(
    ("help_text", "expected"),
    [("  -gp <pp,tg>", "-p 0 -n 0 -gp 1024,128"), ("  -d, --n-depth <n>", "-p 0 -n 128 -d 1024")],
)
def test_llama_bench_decodes_after_a_context_by_the_option_it_has(
    tmp_path: Path, help_text: str, expected: str
) -> None:
    program = tmp_path / "llama-bench"
    program.write_text(
        '#!/bin/sh\nif [ "$1" = --help ]; then echo "' + help_text + '"; exit; fi\n'
        'echo "[{\\"avg_ts\\": 12.5, \\"build_commit\\": \\"$*\\"}]"\n'
    )
    program.chmod(0o755)
    model = Model("m", tmp_path / "m.gguf", threads=2, repeats=3)
    speed = LlamaBench("ik", program, ("-fa", "1")).speed(model, Load(DECODE, 1024, 128))
    assert speed is not None
    assert speed.modes == {ALL_LOGITS: 12.5}
    assert speed.extra["version"].endswith(f"-t 2 -r 3 -fa 1 {expected} -o json")
    prompt = LlamaBench("ik", program).speed(model, Load(PREFILL, 512))
    assert prompt is not None
    assert (prompt.modes, prompt.extra["options"]) == ({"": 12.5}, "")
    assert "-p 512 -n 0" in prompt.extra["version"]


def test_a_module_that_is_not_there_is_skipped() -> None:
    with pytest.raises(SkippedPartError, match="cannot be imported"):
        table_of("no_such_module")(None)  # type: ignore[arg-type]
