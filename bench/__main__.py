"""`python -m bench`: measures PerfXLM beside its peers and writes docs/performance (see `--help`)."""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from bench import machine, report
from bench.contenders import Contender, LlamaBench, LlamaCpp, Load, OpenVINO, PerfXLM
from bench.session import Session, make_reference, summary

ROOT = Path(__file__).resolve().parent.parent


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").splitlines()[0])
    add = options.add_argument
    add("--model", default="gemma3-270m", help="a GGUF file or the name of a model package (default gemma3-270m)")
    add("--threads", type=int, default=2, help="threads of every engine (default 2)")
    add("--prompt-tokens", type=int, default=512, help="tokens of the prompt (default 512)")
    add("--gen-tokens", type=int, default=128, help="tokens generated (default 128)")
    add("--context", type=int, default=2048, help="context that every engine makes room for (default 2048)")
    add("--repeats", type=int, default=5, help="repeats within a process (default 5)")
    add("--rounds", type=int, default=3, help="processes of every engine, in alternation (default 3)")
    add("--device", default="auto", help="device of PerfXLM (default auto)")
    add("--llama-python", default=sys.executable, help="Python that has llama-cpp-python (default: this one)")
    add("--ik-llama-bench", type=Path, help="llama-bench program of ik_llama.cpp")
    add("--openvino-python", default=sys.executable, help="Python that has openvino-genai (default: this one)")
    add("--openvino-model", type=Path, help="folder that optimum-intel exported from the same weights")
    add("--reference", type=Path, help="reference file of quality (npz), beside the text's own")
    add("--text", type=Path, default=ROOT / "tests/data/varied_text.txt", help="text whose quality is measured")
    add("--no-quality", action="store_true", help="measure speed and memory only")
    add("--output", type=Path, default=ROOT / "docs/performance", help="folder of the results")
    add("--name", default="cpu", help="name of the result files (default cpu)")
    return options


def main() -> int:
    """Measures and writes; the exit code is 1 where our own engine could not be measured."""
    options = parser().parse_args()
    from perfxlm.model_packages import find_model

    load = Load(
        options.model,
        find_model(options.model),
        options.threads,
        options.prompt_tokens,
        options.gen_tokens,
        options.repeats,
        options.context,
    )
    contenders: list[Contender] = [
        PerfXLM(("--device", options.device)),
        LlamaCpp(options.llama_python),
        LlamaBench("ik_llama.cpp", options.ik_llama_bench),
        OpenVINO(options.openvino_python, options.openvino_model),
    ]
    with tempfile.TemporaryDirectory() as folder:
        references = {}
        if not options.no_quality:
            references[options.text.name] = make_reference(options.model, options.text, Path(folder) / "text.npz")
            if options.reference:
                references[options.reference.name] = options.reference
        records = Session(contenders, load, options.rounds, lambda line: print(line, flush=True)).measure(references)
    shown_load = {**asdict(load), "model_file": load.model_file.name, "rounds": options.rounds}
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": machine.describe(),
        "load": shown_load,
        "engines": [summary(record, records[0]) for record in records],
    }
    for path in report.write(result, options.output, options.name):
        print(path)
    if options.output == ROOT / "docs/performance":
        report.fill_readme(ROOT / "README.md", result, f"docs/performance/{options.name}.md")
    print(report.speed_table(result), report.quality_table(result), sep="\n\n")
    return 1 if records[0].problem else 0


if __name__ == "__main__":
    sys.exit(main())
