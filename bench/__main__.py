"""`python -m bench`: measures PerfXLM beside its peers and writes docs/performance (see `--help`).

The whole takes long; `--only` runs some parts, and what other parts measured before stays in the results.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from bench import plots, report, results
from bench.contenders import OURS_INT8, PerfXLM
from bench.loads import Model
from bench.parts import PARTS
from bench.parts.settings import Settings, SkippedPartError
from bench.peers import LlamaBench, LlamaCpp, OpenVINO
from bench.process import ContenderError
from bench.session import Session

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs/performance"


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def _parts(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    if unknown := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: the parts are {', '.join(PARTS)}")
    return names


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    add = options.add_argument
    add(
        "--only",
        type=_parts,
        default=list(PARTS),
        metavar="PART,...",
        help=f"parts to run: {', '.join(PARTS)} (empty: none)",
    )
    add("--rounds", type=int, default=3, help="processes of every engine, in alternation (default 3)")
    add("--repeats", type=int, default=3, help="repeats within a process, after one to warm up (default 3)")
    add("--threads", type=int, default=2, help="threads of every engine (default 2)")
    add("--model", default="gemma3-270m", help="a GGUF file or the name of a model package (default gemma3-270m)")
    add("--gen-tokens", type=int, default=128, help="tokens decoded (default 128)")
    add("--contexts", type=_numbers, default=(256, 1024), help="contexts of the part context (default 256,1024)")
    add("--prompts", type=_numbers, default=(512, 2048), help="prompts of the part prefill (default 512,2048)")
    add("--batches", type=_numbers, default=(1, 4, 16, 32), help="sequences of the part batch (default 1,4,16,32)")
    add("--batch-gen-tokens", type=int, default=32, help="tokens that each of them decodes (default 32)")
    add("--device", default="auto", help="device of PerfXLM (default auto)")
    add("--llama-python", default=sys.executable, help="Python that has llama-cpp-python (default: this one)")
    add("--ik-llama-bench", type=Path, help="llama-bench program of ik_llama.cpp")
    add("--ik-options", default="-rtr 1 -fa 1", help="what it is told besides (default '-rtr 1 -fa 1', its quickest)")
    add("--openvino-python", default=sys.executable, help="Python that has openvino-genai (default: this one)")
    add("--openvino-model", type=Path, help="folder of the same model for OpenVINO GenAI")
    add("--llama-7b", help="model of 7B for PerfXLM (part llama-7b)")
    add("--llama-7b-gguf", type=Path, help="the same for llama.cpp")
    add("--reference", type=Path, help="reference file of quality (npz), beside the text's own")
    add("--text", type=Path, default=ROOT / "tests/data/varied_text.txt", help="text of our prompts and of quality")
    add("--output", type=Path, default=DOCS, help="folder of the results (default docs/performance)")
    add("--name", default="cpu", help="name of the result files (default cpu)")
    return options


def settings_of(options: argparse.Namespace) -> Settings:
    """The engines, models and sizes that the options name."""
    from perfxlm.model_packages import find_model

    ours = PerfXLM(options=("--device", options.device))
    narrow = PerfXLM(OURS_INT8, (*ours.options, "--activation-format", "int8"))
    peers = (
        LlamaCpp(options.llama_python),
        LlamaBench("ik_llama.cpp", options.ik_llama_bench, tuple(options.ik_options.split())),
        OpenVINO(options.openvino_python),
    )
    session = Session((ours, narrow, *peers), options.rounds, lambda line: print(line, flush=True))
    model = Model(
        options.model,
        Path(find_model(options.model)),
        options.threads,
        options.repeats,
        options.openvino_model,
        ("--text", str(options.text)),
    )
    large = None
    if options.llama_7b and options.llama_7b_gguf:
        without_tokenizer = ("--skip-tokenizer-init",)  # prompts are token ids; a folder of random weights has none
        large = Model(
            options.llama_7b, options.llama_7b_gguf, options.threads, options.repeats, options=without_tokenizer
        )
    return Settings(
        session,
        ours,
        model,
        options.gen_tokens,
        options.contexts,
        options.prompts,
        options.batches,
        options.batch_gen_tokens,
        options.text,
        options.reference,
        large,
    )


def main() -> int:
    """Measures and writes, part by part; the exit code is 1 where a part failed."""
    options = parser().parse_args()
    settings = settings_of(options)
    path = options.output / f"{options.name}.json"
    failed = False
    for name in options.only:
        start = time.monotonic()
        try:
            part = PARTS[name](settings)
        except SkippedPartError as error:
            print(f"{name}: not measured: {error}", flush=True)
            continue
        except ContenderError as error:
            print(f"{name}: failed: {error}", file=sys.stderr, flush=True)
            failed = True
            continue
        seconds = time.monotonic() - start
        results.write(results.merged(results.read(path), name, results.stamped(part, settings, seconds)), path)
        print(f"{name}: {seconds:.0f} s", flush=True)
    write_report(options.output, options.name)
    return int(failed)


def write_report(folder: Path, name: str) -> None:
    """The page, the plots and, for the project's own results, the README's table: from the file of results."""
    found = results.read(folder / f"{name}.json")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(report.page(found, name), encoding="utf-8")
    plots.draw(found, folder, name)
    if folder == DOCS:
        report.fill_readme(ROOT / "README.md", found, f"docs/performance/{name}.md")
    print(folder / f"{name}.md", report.short_table(found), sep="\n\n")


if __name__ == "__main__":
    sys.exit(main())
