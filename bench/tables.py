"""Tables of the report in Markdown. What was not measured says so; it is never left out and never counts as met."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from bench import limits
from bench.contenders import OURS, OURS_INT8
from bench.loads import ALL_LOGITS, GREEDY

MISSING = "not measured"

Case = dict[str, Any]
Series = dict[str, Any]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a bar inside a cell is escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def replaced_between(text: str, marks: tuple[str, str], body: str) -> str:
    """A document with what stands between two marks replaced. Raises ValueError where a mark is missing."""
    before, begin, rest = text.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not end:
        raise ValueError(f"the page has no marks {marks[0].strip()} and {marks[1].strip()}")
    return before + begin + body + end + after


def number(value: float | None, pattern: str = "{:.1f}") -> str:
    """A figure, or that there is none."""
    return MISSING if value is None else pattern.format(value)


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """The median of the ratios of runs that stood side by side; None where there are none."""
    if len(ours) != len(theirs) or not ours:
        return None
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def series_of(case: Case, name: str, mode: str | None = None) -> Series | None:
    """The series of an engine, in a mode (None: the first)."""
    return next((s for s in case["series"] if s["name"] == name and mode in (None, s["mode"])), None)


def ratio(case: Case, name: str, mode: str, peer: Series) -> float | None:
    """One of ours in a mode over a peer."""
    ours = series_of(case, name, mode)
    return median_ratio(ours["runs"], peer["runs"]) if ours else None


def fraction(part: dict[str, Any], case: Case, series: Series) -> float | None:
    """Speed over the limit of the machine."""
    limit = limits.tokens_per_second(case, case["kernels"], part["yardstick"])
    speed = series.get("tokens_per_second")
    return None if limit is None or speed is None else speed / limit


def title_of(series: Series) -> str:
    """The engine and its mode."""
    return f"{series['name']}, {series['mode']}" if series["mode"] else str(series["name"])


def speed_table(part: dict[str, Any]) -> str:
    """Every load and engine: speed, ours divided by it, the fraction of the limit that ours reached."""
    all_series = [series for case in part["cases"] for series in case["series"]]
    modes = [GREEDY, ALL_LOGITS] if any(series["mode"] for series in all_series) else [""]
    measured = {series["name"] for series in all_series}
    ours = [(name, mode) for name in (OURS, OURS_INT8) if name in measured for mode in modes]
    heads = [f"{title_of({'name': name, 'mode': mode})} / it" for name, mode in ours]
    header = ["load", "engine", "tokens/s", *heads, "of the limit"]
    return table(header, [_speed_row(part, case, series, ours) for case in part["cases"] for series in case["series"]])


def _speed_row(part: dict[str, Any], case: Case, series: Series, ours: Sequence[tuple[str, str]]) -> list[str]:
    is_ours = series["name"] in (OURS, OURS_INT8)
    ratios = ["" if is_ours else number(ratio(case, name, mode, series), "{:.2f}") for name, mode in ours]
    # another arithmetic has another limit
    reached = number(fraction(part, case, series), "{:.0%}") if series["name"] == OURS else ""
    return [case["title"], title_of(series), number(series.get("tokens_per_second")), *ratios, reached]


def limit_table(part: dict[str, Any]) -> str:
    """What each load must read and compute, and the highest speed that the machine allows."""
    rows = []
    for case in part["cases"]:
        kernels = case["kernels"]
        limit = limits.tokens_per_second(case, kernels, part["yardstick"])
        rows.append([
            case["title"],
            number(sum(kernel["stored_bytes"] for kernel in kernels) * 1e-6),
            number(sum(kernel["operations"] for kernel in kernels) * 1e-9, "{:.2f}"),
            number(limit),
        ])  # fmt: skip
    return table(["load", "weights and KV cache read, MB", "10^9 operations", "limit, tokens/s"], rows)


def start_table(part: dict[str, Any]) -> str:
    """Seconds of a process that makes one token."""
    rows = [[engine["name"], number(engine.get("first_token_seconds"), "{:.2f}")] for engine in part["engines"]]
    return table(["engine", "first token, whole process, s"], rows)


def memory_table(part: dict[str, Any]) -> str:
    """Peak memory of a process with one long sequence."""
    rows = [[engine["name"], megabytes(engine.get("peak_memory_bytes"))] for engine in part["memory"]["engines"]]
    return table(["engine", f"peak memory at {part['memory']['length']:,} tokens, MB"], rows)


def megabytes(count: float | None) -> str:
    """Bytes in units of 10^6."""
    return number(None if count is None else count * 1e-6, "{:.0f}")


def quality_table(part: dict[str, Any]) -> str:
    """Distance from float32 arithmetic on the same weights."""
    rows = [
        [
            row["name"],
            row["text"],
            number(row.get("mean_kl"), "{:.2g}"),
            number(row.get("p99_kl"), "{:.2g}"),
            number(row.get("top1_agreement"), "{:.1%}"),
        ]
        for row in part["rows"]
    ]
    return table(["engine", "text", "mean KL", "99th percentile of KL", "same top token"], rows)


def yardstick_table(part: dict[str, Any]) -> str:
    """What the machine can do at most."""
    rows = [
        [
            str(figures["threads"]),
            number(figures["read_bytes"] * 1e-9),
            number(figures["float32_operations"] * 1e-9 or None, "{:.0f}"),
            number(figures["int8_operations"] * 1e-9 or None, "{:.0f}"),
        ]
        for figures in part["yardstick"].values()
    ]
    return table(["threads", "reading memory, GB/s", "float32, Gop/s", "int8, Gop/s"], rows)


def kernel_table(part: dict[str, Any], profile: str) -> str:
    """One profile, the longest kernels first."""
    kernels = sorted(part["profiles"].get(profile, []), key=lambda kernel: -kernel["seconds"])
    total = sum(kernel["seconds"] for kernel in kernels)
    rows = []
    for kernel in kernels:
        seconds = max(kernel["seconds"], 1e-9)
        least = limits.kernel_seconds(kernel, part["yardstick"])
        rows.append([
            f"{kernel['count']} x {kernel['op']}",
            kernel["detail"],
            f"{1e6 * seconds:.0f}",
            f"{seconds / total:.1%}",
            f"{kernel['stored_bytes'] / seconds * 1e-9:.1f}",
            f"{kernel['operations'] / seconds * 1e-9:.0f}",
            f"{least / seconds:.0%}" if least else "",
        ])  # fmt: skip
    return table(["kernel", "weights", "us", "of the time", "GB/s", "Gop/s", "of its limit"], rows)


def rows_table(part: dict[str, Any]) -> str:
    """Rows of plain values under their own names."""
    names = list(dict.fromkeys(name for row in part["rows"] for name in row))
    return table(names, [[_plain(row.get(name)) for name in names] for row in part["rows"]])


def _plain(value: Any) -> str:
    return MISSING if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
