"""The command line: what it prints for people and for programs, and one line for each mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from perfxlm import LLM, evaluation
from perfxlm.cli import COMMANDS, main
from perfxlm.progress import show_measuring


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_names_every_option(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"] if command else ["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert all(word in text for word in (["--device", "MODEL"] if command else COMMANDS))


def test_run_prints_the_text_as_generated(capsys: pytest.CaptureFixture[str], tiny_model: Path) -> None:
    from perfxlm import SamplingParams

    llm = LLM(tiny_model, device="cpu")
    (expected,) = llm.generate("ab", SamplingParams(temperature=0.0, max_tokens=6))
    status, out, err = run(capsys, "run", tiny_model, "ab", "--max-tokens", 6, "--device", "cpu")
    assert (status, out) == (0, "ab" + expected.outputs[0].text + "\n")
    assert "tokens/s, first token after" in err
    assert "cpu:0" in err


def test_run_as_json_with_placement(capsys: pytest.CaptureFixture[str], tiny_model: Path) -> None:
    options = ("--max-tokens", 6, "--device", "cpu", "--json", "--explain", "--seed", 3, "--temperature", 9)
    status, out, _ = run(capsys, "run", tiny_model, "ab", *options)
    report = json.loads(out)
    assert status == 0
    assert report["prompt_tokens"] == 2
    assert report["generated_tokens"] == 6
    assert report["finish_reason"] == "length"
    assert report["tokens_per_second"] > 0
    assert {row["op"] for row in report["explain"]} >= {"embedding", "sample"}


def test_run_explains_as_a_table(capsys: pytest.CaptureFixture[str], tiny_model: Path) -> None:
    _, out, _ = run(capsys, "run", tiny_model, "ab", "--max-tokens", 2, "--device", "numpy", "--explain", "--chat")
    assert "ran on" in out
    assert "paged_attention" in out


def test_bench_prints_one_object(capsys: pytest.CaptureFixture[str], tiny_model: Path) -> None:
    options = ("--prompt-tokens", 20, "--gen-tokens", 8, "--repeats", 2, "--device", "cpu")
    status, out, _ = run(capsys, "bench", tiny_model, *options, "--json")
    figures = json.loads(out)
    assert status == 0
    assert figures["prefill_tokens_per_second"] > 0
    assert figures["decode_tokens_per_second"] > 0
    assert figures["peak_memory_bytes"] > 20 << 20
    assert 0 < figures["outside_native_fraction"] < 1
    assert (figures["device"], figures["prompt_tokens"], figures["repeats"]) == ("cpu:0", 20, 2)
    assert figures["threads"] >= 1
    status, out, _ = run(capsys, "bench", tiny_model, *options)
    assert [line.split("  ")[0] for line in out.splitlines()][:2] == ["prefill", "decode"]


def test_eval_against_a_reference(capsys: pytest.CaptureFixture[str], tiny_model: Path, tmp_path: Path) -> None:
    made = evaluation.make_reference(LLM(tiny_model, device="cpu"), [[5, 6, 7]], k=4)
    evaluation.write_reference(tmp_path / "made.npz", made)
    options = (tiny_model, "--reference", tmp_path / "made.npz", "--device", "cpu")
    status, out, _ = run(capsys, "eval", *options, "--json")
    figures = json.loads(out)
    assert (status, figures["top1_agreement"], figures["num_positions"]) == (0, 1.0, 3)
    assert abs(figures["mean_kl"]) < 1e-6
    assert "p99_kl" in figures
    _, out, _ = run(capsys, "eval", *options)
    assert out.splitlines()[2].split() == ["top1_agreement", "1"]


def test_eval_against_several_references(capsys: pytest.CaptureFixture[str], tiny_model: Path, tmp_path: Path) -> None:
    llm = LLM(tiny_model, device="cpu")
    paths = [str(tmp_path / name) for name in ("three.npz", "two.npz")]
    for path, token_ids in zip(paths, ([5, 6, 7], [8, 9]), strict=True):
        evaluation.write_reference(path, evaluation.make_reference(llm, [token_ids], k=4))
    options = (tiny_model, *(f"--reference={path}" for path in paths), "--device", "cpu")
    _, out, _ = run(capsys, "eval", *options, "--json")
    assert [(path, found["num_positions"]) for path, found in json.loads(out).items()] == [(paths[0], 3), (paths[1], 2)]
    _, out, _ = run(capsys, "eval", *options)
    assert [line for line in out.splitlines() if line.endswith(".npz")] == paths


def test_eval_on_a_text(capsys: pytest.CaptureFixture[str], tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a text of some length, in letters")
    written = tmp_path / "written.npz"
    options = ("--text", tmp_path / "text.txt", "--device", "cpu", "--context", 16, "--write-reference", written)
    status, out, _ = run(capsys, "eval", tiny_model, *options, "--json")
    figures = json.loads(out)
    assert status == 0
    assert figures["num_tokens"] == 33
    assert figures["perplexity"] == pytest.approx(np.exp(figures["mean_nll"]))
    assert [len(prompt.token_ids) for prompt in evaluation.read_reference(written)] == [16, 16, 4]


def test_show_describes_the_model(capsys: pytest.CaptureFixture[str], tiny_model: Path) -> None:
    status, out, _ = run(capsys, "show", tiny_model, "--device", "cpu", "--json", "--max-model-len", 64)
    shown = json.loads(out)
    assert status == 0
    assert shown["config"]["num_layers"] == 7
    assert shown["config"]["windows"] == {"24": 6, "0": 1}
    assert shown["memory"]["kv_bytes_per_token"] == 7 * 2 * 2 * 16 * 4
    assert shown["memory"]["max_model_len"] == 64
    assert shown["tensors"]["float32"]["count"] > 50
    assert sum(shown["placement"].values()) == len(shown["nodes"])
    assert shown["launching"] == [{"num_nodes": len(shown["nodes"]), "device": "cpu:0", "how": "all at once"}]
    status, out, _ = run(capsys, "show", tiny_model, "--device", "cpu", "--graph")
    assert "graph of a decode step" in out
    assert "paged_attention" in out


def test_chat_holds_a_conversation(
    capsys: pytest.CaptureFixture[str], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = iter(["hello", "", "/help", "/clear", "again", "/exit"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    options = ("--device", "cpu", "--max-tokens", 5, "--temperature", 0, "--max-model-len", 64)
    status, out, err = run(capsys, "chat", tiny_model, *options)
    assert status == 0
    assert len(out) > 5
    assert "commands: /clear, /exit" in err


def test_chat_that_outgrows_the_context_goes_on(
    capsys: pytest.CaptureFixture[str], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = iter(["x" * 60, "short"])

    def read(prompt: str) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", read)
    status, _, err = run(capsys, "chat", tiny_model, "--device", "cpu", "--max-tokens", 5, "--max-model-len", 64)
    assert status == 0
    assert "max_model_len" in err
    assert "/clear starts a new conversation" in err


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["run", "no-such-model", "hi"], "no such file or folder, and no model package"),
        (["run", "{model}", "hi", "--device", "cpuu"], "Did you mean 'cpu'"),
        (["run", "{model}", "hi", "--temperature", "nan"], "temperature must be"),
        (["run", "{model}", "hi", "--max-tokens", "-3"], "max_tokens must be"),
        (["bench", "{model}", "--prompt-tokens", "0"], "prompt_tokens must be"),
        (["bench", "{model}", "--prompt-tokens", "300"], "more than max_model_len"),
        (["eval", "{model}", "--text", "no-such-file"], "no-such-file"),
        (["eval", "{model}", "--reference", "no-such-file"], "no-such-file"),
    ],
    ids=str,
)
def test_mistakes_are_one_line(
    capsys: pytest.CaptureFixture[str], tiny_model: Path, arguments: list[str], match: str
) -> None:
    status, out, err = run(capsys, *(argument.format(model=tiny_model) for argument in arguments))
    assert status == 1
    assert err.startswith("perfxlm: error: ")
    assert len(err.splitlines()) == 1
    assert match in err
    assert "Traceback" not in out + err


def test_missing_device_warns_in_a_line_of_its_own(tiny_model: Path) -> None:
    """As a program, since the core warns of a missing device once a process."""
    program = (
        "import sys; from perfxapi import policy; from perfxlm.cli import main; "
        "policy.KNOWN_KINDS['absent'] = 'perfxapi-backend-absent'; sys.exit(main(sys.argv[1:]))"
    )
    options = ["run", str(tiny_model), "ab", "--max-tokens", "2", "--device", "absent"]
    command = [sys.executable, "-c", program, *options]
    environment = {**os.environ, "PERFXAPI_FALLBACK": "warn"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0
    assert "perfxlm: warning: " in done.stderr
    assert "pip install perfxapi-backend-absent" in done.stderr
    assert done.stdout.startswith("ab")
    command += ["--fallback", "error"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith("perfxlm: error: ")


def test_import_is_quick_and_light() -> None:
    """Neither the engine nor the libraries of the command line are loaded by `import perfxlm`."""
    program = "import sys, perfxlm; print(*({'numpy', 'rich', 'jinja2', 'tokenizers', 'perfxapi'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "")


@pytest.mark.parametrize("command", ["bench", "eval"])
def test_a_text_that_is_not_utf8_is_refused(
    capsys: pytest.CaptureFixture[str], tiny_model: Path, tmp_path: Path, command: str
) -> None:
    text = tmp_path / "latin.txt"
    text.write_bytes(b"caf\xe9")
    status, _, err = run(capsys, command, tiny_model, "--text", text)
    assert status != 0
    assert f"{text}: byte 3: invalid UTF-8" in err


def test_tune_compiles_every_size(capsys: pytest.CaptureFixture[str], tiny_model: Path) -> None:
    status, out, _ = run(capsys, "tune", tiny_model, "--device", "cpu", "--json", "--max-model-len", 64)
    plans = json.loads(out)["plans"]
    assert status == 0
    assert {(plan["num_tokens"], plan["num_rows"]) for plan in plans} >= {(1, 1), (16, 1), (16, 16)}
    assert all(plan["nodes"].keys() == {"cpu:0"} for plan in plans)
    status, out, _ = run(capsys, "tune", tiny_model, "--device", "cpu", "--max-model-len", 64)
    assert "steps of up to 1 tokens, 1 of them sampled: " in out


def test_tune_that_is_interrupted_says_so(
    capsys: pytest.CaptureFixture[str], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from perfxlm.cli import tune_command

    def interrupted(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tune_command, "open_llm", interrupted)
    status, _, err = run(capsys, "tune", tiny_model)
    assert status == 130
    assert "interrupted; what was measured until then is kept" in err


def test_on_a_terminal_measuring_is_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with show_measuring(60) as note:
        note("copies of sim:0", 20.4)
    err = capsys.readouterr().err
    assert "20 of 60 s" in err
    assert "copies of sim:0" in err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    with show_measuring(60) as note:
        note("tanh on cpu:0", 1.0)
    assert capsys.readouterr().err == "measuring tanh on cpu:0 (1 of 60 s)\n"
