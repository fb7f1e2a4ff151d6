"""Results as JSON, as a page of tables, as plots, and as a short table inside the README."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
_PLOTS = (
    ("decode_tokens_per_second", "decode, tokens/s"),
    ("prefill_tokens_per_second", "prefill, tokens/s"),
    ("peak_memory_bytes", "peak memory, MB"),
)


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(engine: dict[str, Any], key: str, pattern: str, scale: float = 1.0) -> str:
    return pattern.format(engine[key] * scale) if key in engine else "not measured"


def _ratio(engine: dict[str, Any], key: str, first: bool) -> str:
    return "1" if first else _number(engine, key, "{:.2f}")


def machine_line(result: dict[str, Any]) -> str:
    """The machine and the load in one sentence."""
    machine, load = result["machine"], result["load"]
    sets = ", ".join(machine["instruction_sets"]) or "no vector extension that we look for"
    return (
        f"{machine['processor']} ({sets}), {machine['usable_processors']} usable processors, "
        f"{machine['memory_gib']} GiB, {machine['system']}; {load['model']}, {load['threads']} threads, "
        f"prompt of {load['prompt_tokens']} tokens, {load['gen_tokens']} generated, "
        f"context {load['context']}; commit {machine['commit']}, {result['date']}."
    )


def speed_table(result: dict[str, Any]) -> str:
    """Speed, memory and first token of every engine."""
    header = [
        "engine",
        "prefill, tok/s",
        "ours / it",
        "decode, tok/s",
        "ours / it",
        "peak memory, MB",
        "first token, s",
    ]
    rows = []
    for index, engine in enumerate(result["engines"]):
        rows.append([
            engine["name"],
            _number(engine, "prefill_tokens_per_second", "{:.0f}"),
            _ratio(engine, "prefill_ratio", index == 0),
            _number(engine, "decode_tokens_per_second", "{:.1f}"),
            _ratio(engine, "decode_ratio", index == 0),
            _number(engine, "peak_memory_bytes", "{:.0f}", 1e-6),
            _number(engine, "first_token_seconds", "{:.2f}"),
        ])  # fmt: skip
    return _table(header, rows)


def quality_table(result: dict[str, Any]) -> str:
    """Distance from float32 arithmetic on the same weights."""
    rows = [
        [engine["name"], title, f"{q['mean_kl']:.2g}", f"{q['p99_kl']:.2g}", f"{100 * q['top1_agreement']:.1f}%"]
        for engine in result["engines"]
        for title, q in engine["quality"].items()
    ]
    return _table(["engine", "text", "mean KL", "99th percentile of KL", "same top token"], rows)


def page(result: dict[str, Any], stem: str) -> str:
    """The whole page in Markdown."""
    problems = [f"- {e['name']}: {e['problem']}" for e in result["engines"] if e["problem"]]
    versions = {**result["machine"]["versions"], "Python": result["machine"]["python"]}
    versions |= {e["name"]: e["extra"]["version"] for e in result["engines"] if e.get("extra", {}).get("version")}
    parts = [
        "# Measured",
        "Written by `make bench`; do not edit. Every engine runs in a process of its own, in alternation with the "
        "others; figures are medians, ratios are medians of the ratios pair by pair.",
        machine_line(result),
        speed_table(result),
        f"![Speed and memory]({stem}.png)",
        "## Quality",
        "Against float32 arithmetic on the same weights, over the 256 likeliest tokens and one bucket for the rest.",
        quality_table(result),
        "## Versions",
        ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
    ]
    if problems:
        parts += ["## Not measured", "\n".join(problems)]
    return "\n\n".join(parts) + "\n"


def fill_readme(readme: Path, result: dict[str, Any], link: str) -> None:
    """Replaces what stands between the two marks of the README."""
    text = readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        return
    body = f"{machine_line(result)}\n\n{speed_table(result)}\n\nMore, with quality and versions: [{link}]({link})."
    readme.write_text(f"{before}{BEGIN}\n{body}\n{END}{after}", encoding="utf-8")


def plot(result: dict[str, Any], path: Path) -> bool:
    """Bars of speed and memory; False where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(_PLOTS), figsize=(4 * len(_PLOTS), 3), layout="constrained")
    for axis, (key, title) in zip(axes, _PLOTS, strict=True):
        engines = [engine for engine in result["engines"] if key in engine]
        values = [engine[key] * (1e-6 if key == "peak_memory_bytes" else 1) for engine in engines]
        colors = ["tab:blue" if engine is result["engines"][0] else "tab:gray" for engine in engines]
        bars = axis.barh([engine["name"] for engine in engines], values, color=colors)
        axis.bar_label(bars, fmt="%.0f", padding=3)
        axis.set_title(title)
        axis.margins(x=0.2)
        axis.invert_yaxis()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return True


def write(result: dict[str, Any], folder: Path, stem: str) -> list[Path]:
    """Writes the JSON, the page and the plot; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / f"{stem}.json", folder / f"{stem}.md"]
    written[0].write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    written[1].write_text(page(result, stem), encoding="utf-8")
    if plot(result, folder / f"{stem}.png"):
        written.append(folder / f"{stem}.png")
    return written
