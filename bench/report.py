"""The page, from the template `page.md` and the results; and a short table inside the README."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import limits, tables
from bench.contenders import OURS, OURS_INT8
from bench.parts.speed import SHORT
from bench.results import Results
from bench.tables import MISSING, replaced_between

TEMPLATE = Path(__file__).parent / "page.md"
MARKS = ("<!-- bench:begin -->\n", "<!-- bench:end -->")
SPEED_PARTS = ("decode", "context", "prefill", "batch", "llama-7b")
_PLACE = re.compile(r"\{\{([^{}]+)\}\}")


def page(results: Results, name: str, template: str | None = None) -> str:
    """The template with its places filled; what was not measured says so. Raises KeyError for an unknown part."""
    values = {"name": name, "problems": problems(results), "versions": versions(results)}
    for part_name, part in results["parts"].items():
        values.update({f"{part_name}.{key}": text for key, text in part_values(part_name, part).items()})
    known = {*values, *SPEED_PARTS, *TABLES}

    def fill(match: re.Match[str]) -> str:
        place = match[1]
        if place not in known and place.partition(".")[0] not in known:
            raise KeyError(f"{{{{{place}}}}}: the template names a part that does not exist")
        return values.get(place, f"*{MISSING}*")

    return _PLACE.sub(fill, template if template is not None else TEMPLATE.read_text(encoding="utf-8"))


def part_values(name: str, part: dict[str, Any]) -> dict[str, str]:
    """What the template may say of a part, by the name after the part's own."""
    values = {"about": about(part)}
    if name in SPEED_PARTS:
        values.update(_speed_values(part))
    else:
        values.update({key: make(part) for key, make in TABLES[name].items()})
    return values


def _speed_values(part: dict[str, Any]) -> dict[str, str]:
    values = {"table": tables.speed_table(part), "limits": tables.limit_table(part)}
    if "memory" in part:
        values["memory"] = tables.memory_table(part)
    is_batch = len({case["batch"] for case in part["cases"]}) > 1
    for case in part["cases"]:
        label = str(case["batch"] if is_batch else case["context"])
        values[f"{label}.limit"] = tables.number(limits.tokens_per_second(case, case["kernels"], part["yardstick"]))
        for series in case["series"]:
            key = f"{label}.{_place_of(series)}"
            values[key] = tables.number(series.get("tokens_per_second"))
            values[f"{key}.fraction"] = tables.number(tables.fraction(part, case, series), "{:.0%}")
    return values


def _place_of(series: dict[str, Any]) -> str:
    """Ours by its mode, with the activations' format where it is not the default; a peer by its name."""
    mode = _slug(series["mode"] or "ours")
    return {OURS: mode, OURS_INT8: f"int8.{mode}"}.get(series["name"], _slug(series["name"]))


def _slug(text: str) -> str:
    return text.lower().replace(" ", "_")


def _kernel_tables(part: dict[str, Any]) -> str:
    return "\n\n".join(f"### {title}\n\n{tables.kernel_table(part, title)}" for title in part["profiles"])


TABLES: dict[str, dict[str, Callable[[dict[str, Any]], str]]] = {
    "start": {"table": tables.start_table, "memory": tables.memory_table, "prompt": lambda part: f"“{part['prompt']}”"},
    "quality": {"table": tables.quality_table},
    "roofline": {"yardstick": tables.yardstick_table, "tables": _kernel_tables},
    "matrix": {"table": tables.rows_table},
    "overhead": {"table": tables.rows_table},
    "instructions": {"table": tables.rows_table},
}


def about(part: dict[str, Any]) -> str:
    """Machine, load and commit of a part, in one sentence."""
    machine = part["machine"]
    sets = ", ".join(machine["instruction_sets"]) or "no vector extension that we look for"
    return (
        f"*{part['date']}, commit {machine['commit']}: {machine['processor']} ({sets}), "
        f"{machine['usable_processors']} usable processors, load average {machine['load_average']} before, "
        f"{machine['memory_gib']} GiB, {machine['system']}; {part['model']}, {part['threads']} threads, "
        f"{part['rounds']} rounds of {part['repeats']} repeats.*"
    )


def problems(results: Results) -> str:
    """What was not measured, and why; a line for each engine and reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, part in results["parts"].items():
        rows = [series for case in part.get("cases", []) for series in case["series"]]
        memory = part.get("memory", {}).get("engines", [])
        for row in [*rows, *memory, *part.get("engines", []), *part.get("rows", [])]:
            if row.get("problem"):
                found.setdefault((str(row["name"]), str(row["problem"])), []).append(name)
    lines = [f"- {engine} ({', '.join(dict.fromkeys(parts))}): {problem}" for (engine, problem), parts in found.items()]
    absent = [name for name in (*SPEED_PARTS, *TABLES) if name not in results["parts"]]
    lines += [f"- {name}: this part was not run" for name in absent]
    return "\n".join(lines) or "Nothing was left out."


def versions(results: Results) -> str:
    """Versions of everything that took part, of the last part that named them."""
    found: dict[str, str] = {}
    for part in results["parts"].values():
        found |= {**part["machine"]["versions"], "Python": part["machine"]["python"]}
        for series in (series for case in part.get("cases", []) for series in case["series"]):
            extra = series.get("extra", {})
            if extra.get("version"):
                found[series["name"]] = f"{extra['version']} {extra.get('options', '')}".strip()
    return ", ".join(f"{name} {version}" for name, version in found.items()) + "."


def short_table(results: Results) -> str:
    """Decoding, prompts, memory and first token of every engine, for the README."""
    parts = results["parts"]
    names = list(dict.fromkeys(name for part in parts.values() for name in _engine_names(part)))
    header = ["engine", "decode, tok/s", "prefill of 512, tok/s", "peak memory, MB", "first token, s"]
    start = parts.get("start", {})
    firsts = {engine["name"]: engine.get("first_token_seconds") for engine in start.get("engines", [])}
    memory = start.get("memory", {}).get("engines", [])
    peaks = {engine["name"]: engine.get("peak_memory_bytes") for engine in memory}
    rows = [
        [
            name,
            _speeds_of(parts.get("decode"), name, SHORT),
            _speeds_of(parts.get("prefill"), name, 512),
            tables.megabytes(peaks.get(name)),
            tables.number(firsts.get(name), "{:.2f}"),
        ]
        for name in names
    ]
    return tables.table(header, rows)


def _engine_names(part: dict[str, Any]) -> list[str]:
    series = [series["name"] for case in part.get("cases", []) for series in case["series"]]
    return [*series, *(engine["name"] for engine in part.get("engines", []))]


def _speeds_of(part: dict[str, Any] | None, name: str, context: int) -> str:
    """Each mode's speed of an engine at a context."""
    cases = [case for case in (part or {}).get("cases", []) if case["context"] == context]
    found = [series for case in cases for series in case["series"] if series["name"] == name]
    speeds = [
        tables.number(series.get("tokens_per_second")) + (f" ({series['mode']})" if len(found) > 1 else "")
        for series in found
    ]
    return ", ".join(speeds) or MISSING


def fill_readme(readme: Path, results: Results, link: str) -> None:
    """Replaces what stands between the two marks of the README."""
    text = readme.read_text(encoding="utf-8")
    if not results["parts"]:
        return
    last = results["parts"].get("decode") or next(iter(results["parts"].values()))
    more = f"More, with limits, quality and versions: [{link}]({link})."
    body = f"{about(last)}\n\n{short_table(results)}\n\n{more}"
    readme.write_text(replaced_between(text, MARKS, f"{body}\n"), encoding="utf-8")
