"""What goes wrong around a compilation: disks, permissions, signals and compilers. A folder is whole or absent."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from passes import DeadkvError
from tests.support.commands import Run
from tests.support.compilers import install_compiler, wait_for, wait_until_gone
from tests.support.forked import Command, ForkedCommand, killed_at_the_end
from tracing import compile_tkg
from tracing.backends.process import run_logged
from tracing.output import output_folder, write_whole

SMALL = ("compile", "--model", "tiny", "--layers", "1", "--batch", "2", "--bucket", "64")
WRITERS = ("write_text", "write_bytes")


def double(x: Tensor) -> Tensor:
    return x * 2


def compile_into(out: Path) -> None:
    compile_tkg(double, [torch.ones(2)], backend="hlo", out_dir=out)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail_writing(patch: pytest.MonkeyPatch, number: int, code: int) -> list[Path]:
    """Lets the write with that number write half and then fail; returns the list of what was written, as it grows."""
    written: list[Path] = []

    def replace(name: str) -> None:
        original = getattr(Path, name)

        def write(path: Path, data: Any, *arguments: Any, **options: Any) -> int:
            written.append(path)
            if len(written) == number:
                original(path, data[: len(data) // 2], *arguments, **options)
                raise OSError(code, os.strerror(code), str(path))
            return int(original(path, data, *arguments, **options))

        patch.setattr(Path, name, write)

    for name in WRITERS:
        replace(name)
    return written


@pytest.fixture(scope="module")
def writes(tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many files a compilation writes."""
    with pytest.MonkeyPatch.context() as patch:
        written = fail_writing(patch, 0, errno.ENOSPC)
        compile_into(tmp_path_factory.mktemp("writes") / "out")
    return len(written)


def test_a_full_disk_at_any_file_leaves_nothing_and_an_earlier_folder_alone(
    writes: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    compile_into(tmp_path / "good")
    good = content(tmp_path / "good")
    assert writes == len(good) == 13
    for number in range(1, writes + 1):
        with pytest.MonkeyPatch.context() as patch:
            written = fail_writing(patch, number, errno.ENOSPC)
            with pytest.raises(DeadkvError) as failure:
                compile_into(tmp_path / "out")
        assert len(written) == number
        assert str(failure.value) == (
            f"cannot write the output folder {tmp_path / 'out'}: No space left on device; "
            "free some space, or name a folder on another disk with --out"
        )
        assert names(tmp_path) == ["good"]
    assert content(tmp_path / "good") == good


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EIO, errno.EDQUOT])
def test_any_other_refusal_of_the_disk_is_named(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_writing(monkeypatch, 3, code)
    with pytest.raises(DeadkvError, match=f"{os.strerror(code)}; .*--out"):
        compile_into(tmp_path / "out")
    assert names(tmp_path) == []


@pytest.mark.parametrize(("module", "call"), [(os, "mkdir"), (Path, "rename")])
def test_a_folder_that_may_not_be_made_or_named_is_one_line(
    module: Any, call: str, tmp_path: Path, deadkv: Run, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(arguments[0]))

    monkeypatch.setattr(module, call, refuse)
    assert deadkv(*SMALL, "--out", tmp_path / "out") == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"deadkv: cannot write the output folder {tmp_path / 'out'}: Permission denied; name a ")
    assert printed.count("\n") == 1 and names(tmp_path) == []


def test_a_folder_without_permission_is_refused_before_any_work(
    tmp_path: Path, deadkv: Run, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    assert deadkv(*SMALL, "--out", tmp_path / "out") == 2
    assert f"{tmp_path} is not a writable folder" in capsys.readouterr().err


@pytest.fixture
def small_files() -> Iterator[None]:
    """Files of this process may have 20,000 bytes: the kernel itself cuts the first larger one off."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_limit_of_the_kernel_leaves_nothing(small_files: None, deadkv: Run, tmp_path: Path, capsys: Any) -> None:
    assert deadkv(*SMALL, "--out", tmp_path / "out") == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert printed.err.startswith("deadkv: cannot write the output folder") and "File too large" in printed.err
    assert names(tmp_path) == []


def test_a_full_disk_behind_stdout_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tracing.cli", "passes", "--json"], stdout=full, stderr=subprocess.PIPE, text=True,
            check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (2, "deadkv: cannot write the output: No space left on device\n")


def test_a_file_on_its_own_keeps_what_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "diff.html"
    write_whole(page, "old")
    with pytest.MonkeyPatch.context() as patch:
        fail_writing(patch, 1, errno.ENOSPC)
        with pytest.raises(DeadkvError, match=r"cannot write .*diff\.html: No space left on device"):
            write_whole(page, "new")
    assert content(tmp_path) == {"diff.html": b"old"}
    write_whole(page, "new")
    assert content(tmp_path) == {"diff.html": b"new"}


KILLING = """
import os, random, shutil, signal, sys, time
from importlib.util import find_spec, module_from_spec
from pathlib import Path

for name in ("passes", "tracing"):  # the packages without what they import: torch makes a fork take 20 ms
    sys.modules[name] = module_from_spec(find_spec(name))
from tracing.output import output_folder

root, rounds, chance = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
out, names, left_over, whole = root / "out", [f"{i}.json" for i in range(20)], 0, 0
for round in range(rounds):
    child = os.fork()
    if child == 0:
        with output_folder(out) as folder:
            for name in names:
                (folder / name).write_text("x" * 40_000)
        os._exit(0)
    time.sleep(chance.uniform(0, 0.012))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found = sorted(os.listdir(root))
    hidden = [name for name in found if name != "out"]
    assert len(hidden) <= 1, found
    left_over += len(hidden)
    if out.exists():
        whole += 1
        assert sorted(os.listdir(out)) == sorted(names)
        assert all((out / name).stat().st_size == 40_000 for name in names)
        shutil.rmtree(out)
with output_folder(out):
    pass
assert os.listdir(root) == ["out"], os.listdir(root)
print(left_over, whole)
"""


def test_killed_at_any_moment_the_folder_is_whole_or_absent_and_the_next_run_cleans_up(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLING, str(tmp_path), "200", "7"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    left_over, whole = map(int, done.stdout.split())
    assert left_over > 10 and whole > 0, "the kills came too early or too late to show anything"


def test_a_run_leaves_the_folder_of_another_that_lives(tmp_path: Path) -> None:
    mine = tmp_path / ".deadkv-cache.d"
    mine.mkdir()
    with output_folder(tmp_path / "one") as one:
        (one / "file").write_text("1")
        with output_folder(tmp_path / "two"):
            pass
        assert (one / "file").read_text() == "1"
    assert names(tmp_path) == [".deadkv-cache.d", "one", "two"]


HANGING = "pathlib.Path(os.environ['STARTED']).write_text(str(os.getpid())); time.sleep(600)"


def start_compiling(folder: Path, environment: Mapping[str, str], *, forked: bool) -> Command:
    arguments = (*SMALL, "--backend", "neuronx-cc", "--out", str(folder / "out"))
    if forked:
        return ForkedCommand(*arguments, environment=environment, folder=folder.with_suffix(".printed"))
    command = [sys.executable, "-m", "tracing.cli", *arguments]
    return subprocess.Popen(command, env=environment, stdout=-1, stderr=-1, text=True)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Command, Path]]]:
    """For each signal, `deadkv compile` in a folder of its own with a compiler that hangs."""
    root = tmp_path_factory.mktemp("running")
    path = f"{install_compiler(root / 'bin', HANGING)}{os.pathsep}{os.environ['PATH']}"
    started = {}
    with ExitStack() as processes:
        for name in ("SIGTERM", "SIGINT", "SIGKILL"):
            folder = root / name
            folder.mkdir()
            environment = {**os.environ, "PATH": path, "STARTED": str(root / f"{name}.pid")}
            process = start_compiling(folder, environment, forked=name != "SIGTERM")
            processes.enter_context(killed_at_the_end(process))
            started[name] = process, folder
        yield started


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_stops_the_compiler_and_leaves_nothing(running: dict[str, Any], name: str) -> None:
    process, folder = running[name]
    compiler = folder.with_suffix(".pid")
    wait_for(compiler)
    process.send_signal(signal.Signals[name])
    out, error = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.Signals[name]
    assert out == "" and error == f"deadkv: stopped by {name} before it was done\n"
    wait_until_gone(int(compiler.read_text()))
    assert names(folder) == []


def test_what_a_killed_run_leaves_is_removed_by_the_next(running: dict[str, Any]) -> None:
    process, folder = running["SIGKILL"]
    compiler = folder.with_suffix(".pid")
    wait_for(compiler)
    process.kill()
    process.communicate(timeout=60)
    os.killpg(int(compiler.read_text()), signal.SIGKILL)
    (left_over,) = folder.iterdir()
    assert left_over.name.startswith(".deadkv-")
    compile_into(folder / "out")
    assert names(folder) == ["out"]


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Puts a compiler with that body on the PATH; what is kept of a failure goes to tmp_path/kept."""
    (tmp_path / "kept").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "kept"))

    def install(body: str) -> None:
        folder = install_compiler(tmp_path / "bin", body)
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    yield install


FAILURES = [
    ("print('[F137] killed'); sys.exit(70)", "failed with exit code 70; its last lines: [F137] killed; log, "),
    ("os.kill(os.getpid(), signal.SIGKILL)", "ended by signal 9 (the system killed it, usually because memory ran"),
    ("os.kill(os.getpid(), signal.SIGSEGV)", "ended by signal 11 (it crashed: report it"),
    ("time.sleep(600)", "did not end within 2 s and was stopped; allow more with --timeout; log, command and HLO"),
    ("print('done')", "reported success but wrote no after.neff"),
    ("print('\\x1b[2J\\x07' + 'y' * 5000); sys.exit(1)", "last lines: ..." + "y" * 400 + ";"),
]


@pytest.mark.parametrize(("body", "message"), FAILURES, ids=[body[:24] for body, _ in FAILURES])
def test_a_compiler_that_fails_is_one_line_and_its_log_is_kept(
    body: str, message: str, compiler: Callable[[str], None], deadkv: Run, tmp_path: Path, capsys: Any
) -> None:
    compiler(body)
    arguments = ("--backend", "neuronx-cc", "--timeout", "2", "--out", tmp_path / "made" / "out")
    assert deadkv(*SMALL, *arguments) == 2
    printed = capsys.readouterr()
    line = printed.err.splitlines()[-1]
    assert line.startswith("deadkv: neuronx-cc ") and message in line
    assert printed.out == "" and line.isprintable()
    assert names(tmp_path / "made") == []
    (kept,) = (tmp_path / "kept").iterdir()
    assert line.endswith(f"kept in {kept}") and (kept / "neuronx-cc.output.txt").exists()


def test_a_log_that_cannot_be_kept_does_not_hide_the_failure(
    compiler: Callable[[str], None], deadkv: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    compiler("print('out of tensors'); sys.exit(70)")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    assert deadkv(*SMALL, "--backend", "neuronx-cc", "--out", tmp_path / "out") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "out of tensors; its log could not be kept (No such file or directory)" in line


def test_without_the_compiler_the_command_is_written(
    deadkv: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert deadkv(*SMALL, "--backend", "neuronx-cc", "--out", tmp_path / "out", "--json") == 0
    backend = json.loads(capsys.readouterr().out)["backend"]
    assert backend["message"] == "neuronx-cc is not on the PATH: run the command in command.txt where the compiler is"
    assert (tmp_path / "out" / "command.txt").exists() and backend["exit_code"] is None


def test_a_line_of_megabytes_is_on_disk_and_never_in_memory(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "for _ in range(400): print('z' * 100_000, end='')\nprint('\\nthe end')"]
    pieces: list[int] = []
    tracemalloc.start()
    try:
        log = tmp_path / "log"
        code, tail = run_logged(command, tmp_path, log, lambda line: pieces.append(len(line)), None, keep=3)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert code == 0 and tail[-1] == "the end"
    assert log.stat().st_size == sum(pieces) + 2 == 40_000_000 + len("the end") + 2
    assert peak < 2_000_000 and max(pieces) <= 2 * 64 * 1024


def test_a_compiler_is_over_when_its_first_process_is(tmp_path: Path) -> None:
    """What it leaves running has its output still open, and is killed."""
    body = "child = subprocess.Popen(['sleep', '600']); print(child.pid, flush=True)"
    program = install_compiler(tmp_path / "bin", body) / "neuronx-cc"
    code, tail = run_logged([str(program)], tmp_path, tmp_path / "log", lambda line: None, 120, keep=3)
    assert code == 0
    wait_until_gone(int(tail[0]))


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf"])
def test_a_time_limit_that_is_none_is_refused(seconds: str, deadkv: Run, tmp_path: Path, capsys: Any) -> None:
    assert deadkv(*SMALL, "--timeout", seconds, "--out", tmp_path / "out") == 2
    assert f"the time limit is {float(seconds):g} s: give a positive number" in capsys.readouterr().err
    assert names(tmp_path) == []
