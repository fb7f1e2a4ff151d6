"""Plots of the results: bars beside the peers, decoding against context, scaling with sequences, the roofline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import limits, tables
from bench.contenders import OURS, OURS_INT8
from bench.results import Results

_DPI = 110


def draw(results: Results, folder: Path, name: str) -> list[Path]:
    """Draws every plot whose parts are there; nothing where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("Agg")
    plots: dict[str, Callable[[Any, dict[str, Any]], bool]] = {
        "": _bars,
        "_context": _against_context,
        "_batch": _scaling,
        "_roofline": _roofline,
    }
    written = []
    for suffix, plot in plots.items():
        path = folder / f"{name}{suffix}.png"
        if _draw_one(plot, results["parts"], path):
            written.append(path)
    return written


def _draw_one(plot: Callable[[Any, dict[str, Any]], bool], parts: dict[str, Any], path: Path) -> bool:
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(9, 3.6), layout="constrained")
    try:
        if is_drawn := plot(figure, parts):
            figure.savefig(path, dpi=_DPI)
    finally:
        pyplot.close(figure)
    return is_drawn


def _cases(parts: dict[str, Any], *names: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Pairs of part and case."""
    return [(parts[name], case) for name in names if name in parts for case in parts[name]["cases"]]


def _limit(part: dict[str, Any], case: dict[str, Any]) -> float | None:
    return limits.tokens_per_second(case, case["kernels"], part["yardstick"])


def _bars(figure: Any, parts: dict[str, Any]) -> bool:
    """Decoding and prompts of every engine, and the limit as a line."""
    cases = [*_cases(parts, "decode")[:1], *_cases(parts, "prefill")]
    if not cases:
        return False
    for axis, (part, case) in zip(figure.subplots(1, len(cases), squeeze=False)[0], cases, strict=True):
        series = [one for one in case["series"] if one["runs"]]
        colors = ["tab:blue" if one["name"] in (OURS, OURS_INT8) else "tab:gray" for one in series]
        speeds = [one["tokens_per_second"] for one in series]
        bars = axis.barh([tables.title_of(one).replace(", ", ",\n") for one in series], speeds, color=colors)
        axis.bar_label(bars, fmt="%.0f", padding=3)
        axis.set_title(f"{case['title']},\ntokens/s", fontsize=9)
        axis.margins(x=0.2)
        axis.invert_yaxis()
        if (limit := _limit(part, case)) is not None:
            axis.axvline(limit, color="tab:red", linestyle="--", linewidth=1, label="limit")
            axis.legend(fontsize=8, loc="lower right")
    return True


def _lines(axis: Any, cases: list[tuple[dict[str, Any], dict[str, Any]]], size: str) -> None:
    """Every engine's speeds against a size of the load, with the limits."""
    points: dict[str, list[tuple[float, float]]] = {}
    for part, case in cases:
        for series in case["series"]:
            if series["runs"]:
                points.setdefault(tables.title_of(series), []).append((case[size], series["tokens_per_second"]))
        if (limit := _limit(part, case)) is not None:
            points.setdefault("limit, all logits", []).append((case[size], limit))
    for title, pairs in points.items():
        style = "--" if title.startswith("limit") else "-"
        axis.plot(*zip(*sorted(pairs), strict=True), marker="o", linestyle=style, label=title)
    axis.set_ylabel("tokens/s")
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)


def _against_context(figure: Any, parts: dict[str, Any]) -> bool:
    cases = _cases(parts, "decode", "context")
    if len(cases) < 2:
        return False
    axis = figure.subplots()
    _lines(axis, cases, "context")
    axis.set_xlabel("tokens before those decoded")
    return True


def _scaling(figure: Any, parts: dict[str, Any]) -> bool:
    cases = _cases(parts, "batch")
    if len(cases) < 2:
        return False
    axis = figure.subplots()
    _lines(axis, cases, "batch")
    axis.set_xlabel("sequences that decode together")
    axis.set_xscale("log", base=2)
    return True


def _roofline(figure: Any, parts: dict[str, Any]) -> bool:
    """Each kernel's operations a second against its operations a byte, under the roofs."""
    part = parts.get("roofline")
    if part is None:
        return False
    axis = figure.subplots()
    for title, kernels in part["profiles"].items():
        shown = [k for k in kernels if k["stored_bytes"] and k["operations"] and k["seconds"]]
        intensities = [kernel["operations"] / kernel["stored_bytes"] for kernel in shown]
        speeds = [kernel["operations"] / kernel["seconds"] * 1e-9 for kernel in shown]
        areas = [10 + 2e3 * k["seconds"] / sum(one["seconds"] for one in kernels) for k in shown]
        axis.scatter(intensities, speeds, s=areas, alpha=0.5, label=title)
    steps = [2.0 ** (0.25 * step) for step in range(-8, 49)]
    for arithmetic in ("int16", "float32"):
        if peak := limits.peak_operations(arithmetic, part["yardstick"]):
            roof = [min(step * part["yardstick"]["all"]["read_bytes"], peak) * 1e-9 for step in steps]
            axis.plot(steps, roof, linewidth=1, label=f"roof, {arithmetic}")
    axis.set(xscale="log", yscale="log", xlabel="operations a byte of weights and KV cache", ylabel="Gop/s")
    axis.grid(alpha=0.3)
    figure.legend(fontsize=7, loc="outside right upper", markerscale=0.4)
    return True
