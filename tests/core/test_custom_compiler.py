"""How sources of kernels are compiled, kept and trusted, and the header that they include."""

from __future__ import annotations

import itertools
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import cffi
import pytest
from axpy import SOURCE, compiled

from perfxapi.custom import compile_library, compiler
from perfxapi.errors import CompileError

pytestmark = pytest.mark.usefixtures("own_kernel_folder")


@compiled
def test_libraries_are_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = compile_library("axpy", SOURCE)
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it is compiled again"))
        assert compile_library("axpy", SOURCE) == path
    others = [compile_library("axpy", SOURCE + "\n"), compile_library("axpy", SOURCE, flags=("-DSMALL",))]
    assert len({path, *others}) == 3
    assert [file for file in path.parent.iterdir() if file.suffix != ".so"] == [], "nothing is left behind"


@compiled
def test_a_folder_that_cannot_be_written(tmp_path: Path, set_setting: Callable[[str, str], None]) -> None:
    (tmp_path / "file").write_text("")
    set_setting("KERNEL_FOLDER", str(tmp_path / "file"))
    with pytest.raises(CompileError, match="name a folder that can be written in PERFXAPI_KERNEL_FOLDER"):
        compile_library("axpy", SOURCE)


def test_a_source_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=r"axpy: its source .*nowhere.c cannot be read"):
        compile_library("axpy", tmp_path / "nowhere.c")


def test_instructions_that_are_not_listed_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "processor : 0\nmodel name : some\n")
    monkeypatch.setattr(compiler, "_machine", compiler._machine.__wrapped__)
    assert compiler._machine() == platform.machine()
    assert compiler._native_flags() == ()


@compiled
def test_what_others_can_write_is_not_loaded(tmp_path: Path, set_setting: Callable[[str, str], None]) -> None:
    folder = tmp_path / "my kernels"
    set_setting("KERNEL_FOLDER", str(folder))
    mask = os.umask(0)
    try:
        path = compile_library("axpy", SOURCE)
    finally:
        os.umask(mask)
    assert compile_library("axpy", SOURCE) == path
    for place in (folder, path):
        mode = place.stat().st_mode
        for bit in (0o020, 0o002):
            place.chmod(mode | bit)
            with pytest.raises(CompileError, match=rf"can be written by others.*: chmod go-w '{place}'"):
                compile_library("axpy", SOURCE)
        place.chmod(mode)
    assert compile_library("axpy", SOURCE) == path


@compiled
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_belongs_to_another_user_is_not_loaded(tmp_path: Path, set_setting: Callable[[str, str], None]) -> None:
    set_setting("KERNEL_FOLDER", str(tmp_path))
    for place in (compile_library("axpy", SOURCE), tmp_path):
        os.chown(place, 12345, -1)
        with pytest.raises(CompileError, match=rf"belongs to user 12345, .*: chown 0 {place}"):
            compile_library("axpy", SOURCE)
        os.chown(place, 0, -1)


@compiled
def test_every_header_of_the_core_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = tmp_path / "include"
    shutil.copytree(compiler.include_dir(), headers)
    monkeypatch.setattr(compiler, "include_dir", lambda: headers)
    before = compile_library("axpy", SOURCE)
    compiler._headers_digest.cache_clear()
    assert compile_library("axpy", SOURCE) == before
    with (headers / "perfx/kernels/math.hpp").open("a") as file:
        file.write("/* more */")
    compiler._headers_digest.cache_clear()
    assert compile_library("axpy", SOURCE) != before


@compiled
def test_a_source_includes_what_stands_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "axpy.c").write_text('#include "mine.h"\n' + SOURCE)
    (tmp_path / "mine.h").write_text("#include <math.h>\n")
    monkeypatch.chdir(tmp_path)
    assert compile_library("axpy", Path("axpy.c")) == compile_library("axpy", tmp_path / "axpy.c")


@compiled
def test_a_compiler_may_be_named_by_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "mycc"
    script.write_text('#!/bin/sh\nexec cc "$@"\n')
    script.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CC", "./mycc -DMINE")
    assert compile_library("axpy", SOURCE).exists()
    script.write_text("#!/nowhere/sh\n")
    with pytest.raises(CompileError, match=rf"its compiler {script} cannot be started: No such file.* in CC or CXX"):
        compile_library("axpy", SOURCE)


# ---- the header

PARTS = """
#include <perfx/kernel.h>

PERFX_EXPORT int64_t part(int64_t count, int64_t grain, int32_t index, int32_t num_threads, int32_t end);
int64_t part(int64_t count, int64_t grain, int32_t index, int32_t num_threads, int32_t end) {
  const PxThread thread = {index, num_threads, 0, 0, 0};
  const PxRange range = perfx_share(count, grain, &thread);
  return end ? range.end : range.begin;
}
"""


@compiled
def test_the_parts_of_all_threads_are_the_whole_in_order() -> None:
    ffi = cffi.FFI()
    ffi.cdef("int64_t part(int64_t, int64_t, int32_t, int32_t, int32_t);")
    part = ffi.dlopen(str(compile_library("parts", PARTS))).part
    for count, grain, threads in itertools.product((0, 1, 5, 64, 1000, 2**40), (1, 7, 1024), (1, 2, 3, 16)):
        parts = [
            (part(count, grain, index, threads, 0), part(count, grain, index, threads, 1)) for index in range(threads)
        ]
        assert (parts[0][0], parts[-1][1]) == (0, count)
        assert all(end == begin for (_, end), (begin, _) in itertools.pairwise(parts))
        assert all(end - begin >= grain or end in (begin, count) for begin, end in parts)


@compiled
@pytest.mark.parametrize("language", ["c", "c++"])
def test_the_header_compiles_without_a_warning(language: str) -> None:
    compile_library("axpy", SOURCE, language, ("-Wall", "-Wextra", "-Werror", "-Wpedantic"))
