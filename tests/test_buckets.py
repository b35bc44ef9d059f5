"""Many buckets in one command: what is written, what fails alone, and that nothing is kept from one to the next."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx import Graph, GraphModule, Node, graph_module

from passes import DeadkvError
from tests.support.commands import Run
from tests.support.compilers import install_compiler, wait_for, wait_until_gone
from tests.support.forked import ForkedCommand, killed_at_the_end
from tracing import capture, compile_tkg
from tracing.buckets import BucketModel, BucketsResult, DecoderBuckets, compile_buckets, processes
from tracing.buckets.caches import empty_caches
from tracing.buckets.sharing import SharedArtefacts

TINY = DecoderBuckets("tiny", layers=1, batch=2)
MANY = range(8, 8 * 15, 8)


def double(x: Tensor) -> Tensor:
    return x * 2


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its path in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> BucketsResult:
    """14 buckets by 2 processes."""
    return compile_buckets(TINY, MANY, out_dir=tmp_path_factory.mktemp("many") / "out", jobs=2, backend="hlo")


def alone(bucket: int, folder: Path, frontend: str = "make_fx") -> Path:
    """The folder of a bucket that is compiled in this process, and nothing else."""
    decoder = TINY.decoder(bucket)
    compile_tkg(
        decoder, decoder.example_inputs(), aliases=decoder.aliases(), frontend=frontend, backend="hlo", out_dir=folder
    )
    return folder


def test_one_report_tells_of_all_buckets(many: BucketsResult) -> None:
    report = json.loads((many.out_dir / "report.json").read_text())
    assert report == many.report and many.failed == ()
    assert report["schema"] == "deadkv.buckets/1"
    assert [entry["bucket"] for entry in report["buckets"]] == list(MANY)
    assert {entry["status"] for entry in report["buckets"]} == {"compiled"}
    files = tree(many.out_dir)
    del files["report.json"]
    digests = {f"{e['folder']}/{name}": digest for e in report["buckets"] for name, digest in e["artefacts"].items()}
    assert digests == {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
    total = report["summary"]
    assert (total["buckets"], total["compiled"], total["failed"]) == (14, 14, 0)
    assert (total["gathers_before"], total["gathers_after"]) == (28, 0)
    assert total["bytes_before"] == sum(entry["summary"]["bytes_before"] for entry in report["buckets"])
    assert (total["artefacts"], total["distinct_artefacts"]) == (len(files), len(set(files.values())))


def test_a_bucket_of_many_has_the_files_of_one_on_its_own(many: BucketsResult, tmp_path: Path) -> None:
    assert tree(alone(64, tmp_path / "alone")) == tree(many.out_dir / "bucket-64")


def test_equal_artefacts_are_one_file(many: BucketsResult) -> None:
    by_content = defaultdict(set)
    for entry in many.report["buckets"]:
        for name, digest in entry["artefacts"].items():
            by_content[digest].add((many.out_dir / entry["folder"] / name).stat().st_ino)
    assert all(len(inodes) == 1 for inodes in by_content.values())
    before, after = (many.out_dir / "bucket-64" / f"{role}.hlo.pb" for role in ("before", "after"))
    assert before.samefile(after), "a gather that nothing reads never reaches the HLO"
    assert before.stat().st_nlink == 2
    assert (many.out_dir / "bucket-64" / "command.txt").stat().st_nlink == 14


def test_without_hard_links_each_bucket_has_its_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    for name in ("a", "b"):
        (tmp_path / name).write_text("same")
    digests = SharedArtefacts().add(tmp_path)
    assert digests["a"] == digests["b"] and tree(tmp_path) == {"a": b"same", "b": b"same"}


def test_both_workers_work_and_neither_grows(many: BucketsResult) -> None:
    """1,000 buckets are measured by hand (docs/pipeline.md); here, 2 % in the second half of a dozen."""
    memory = defaultdict(list)
    for outcome in many.outcomes:
        memory[outcome.worker].append(outcome.memory_bytes)
    assert set(memory) == {1, 2}
    for sizes in memory.values():
        assert len(sizes) >= 5
        assert sizes[-1] < 1.02 * sizes[len(sizes) // 2]


KINDS = (Node, Graph, GraphModule, FakeTensor, FakeTensorMode)


def living(*kinds: type) -> list[int]:
    """How many objects of each kind the process holds."""
    gc.collect()
    counts = Counter(map(type, gc.get_objects()))
    return [sum(count for found, count in counts.items() if issubclass(found, kind)) for kind in kinds]


@dataclass(frozen=True)
class Rounds:
    """Three buckets that this process compiles one after the other, and what it holds after each."""

    folders: dict[int, Path]
    counts: list[list[int]]
    cached: list[int]


@pytest.fixture(scope="module")
def rounds(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Rounds:
    root = tmp_path_factory.mktemp("rounds")
    found = Rounds({bucket: root / str(bucket) for bucket in (8, 16, 24)}, [], [])
    torch._dynamo.reset()
    for bucket, folder in found.folders.items():
        alone(bucket, folder, request.param)
        empty_caches()
        found.counts.append(living(*KINDS))
        found.cached.append(len(FakeTensorMode.cache) + len(graph_module._loader.eval_cache))
    return found


@pytest.mark.parametrize("rounds", ["make_fx", "export", "dynamo"], indirect=True)
def test_a_bucket_leaves_no_graph_and_no_cache_behind(rounds: Rounds) -> None:
    assert rounds.counts[1] == rounds.counts[2]
    assert rounds.cached == [0, 0, 0]


def test_a_dynamo_capture_holds_on_to_nothing_by_itself() -> None:
    capture(double, [torch.ones(2)], frontend="dynamo")
    before = living(Node, GraphModule)
    for size in (3, 4, 5):
        capture(double, [torch.ones(size)], frontend="dynamo")
    assert living(Node, GraphModule) == before


@pytest.fixture(scope="module")
def by_one_worker(tmp_path_factory: pytest.TempPathFactory) -> BucketsResult:
    """Two buckets with Dynamo, which traces a shape otherwise once it has met another, unless it is made to forget."""
    folder = tmp_path_factory.mktemp("dynamo") / "out"
    return compile_buckets(TINY, (16, 8), out_dir=folder, jobs=1, frontend="dynamo", backend="hlo")


def test_what_is_written_depends_on_neither_jobs_nor_order(by_one_worker: BucketsResult, tmp_path: Path) -> None:
    by_two = compile_buckets(TINY, (8, 16), out_dir=tmp_path / "out", jobs=2, frontend="dynamo", backend="hlo")
    assert {outcome.worker for outcome in by_one_worker.outcomes} == {1}
    assert {outcome.worker for outcome in by_two.outcomes} == {1, 2}
    files = tree(by_two.out_dir)
    assert files == tree(by_one_worker.out_dir)
    assert "sym" not in files["bucket-16/before.graph.txt"].decode()


@pytest.mark.parametrize("rounds", ["dynamo"], indirect=True)
def test_what_is_written_depends_on_no_bucket_before_it(by_one_worker: BucketsResult, rounds: Rounds) -> None:
    assert [entry["bucket"] for entry in by_one_worker.report["buckets"]] == [8, 16]
    for bucket in (8, 16):
        folder = rounds.folders[bucket]
        assert tree(folder) == tree(by_one_worker.out_dir / f"bucket-{bucket}")
        assert "sym" not in (folder / "before.graph.txt").read_text()


def sometimes(bucket: int) -> BucketModel:
    """A model for buckets 1 and 5; 2 is refused, 3 has a bug, 4 ends the process."""
    if bucket == 2:
        raise DeadkvError("no such bucket")
    if bucket == 3:
        raise ZeroDivisionError("a bug\nin two lines")
    if bucket == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return BucketModel(double, [torch.ones(bucket)])


def test_a_bucket_that_fails_is_named_and_costs_no_other(tmp_path: Path) -> None:
    result = compile_buckets(sometimes, [5, 4, 3, 2, 1], out_dir=tmp_path / "out", jobs=1, backend="hlo")
    assert {outcome.bucket: outcome.error for outcome in result.failed} == {
        2: "no such bucket",
        3: "unexpected ZeroDivisionError: a bug in two lines; compile this bucket alone to see where",
        4: "its process was killed, usually because memory ran out: use fewer --jobs or a host with more memory",
    }
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["bucket-1", "bucket-5", "report.json"]
    entries = {entry["bucket"]: entry for entry in result.report["buckets"]}
    assert entries[4]["status"] == "failed" and entries[4]["folder"] is None and entries[4]["artefacts"] == {}
    assert result.report["summary"]["compiled"] == 2 and result.report["summary"]["failed"] == 3
    assert {outcome.worker for outcome in result.outcomes} == {1, 2}


def test_if_every_bucket_fails_there_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here with workers that are spawned, as where multiprocessing has no fork server."""
    monkeypatch.setattr(processes, "get_all_start_methods", lambda: ["spawn"])
    with pytest.raises(DeadkvError, match=r"none of the 2 buckets compiled; bucket 2: no such bucket"):
        compile_buckets(sometimes, [3, 2], out_dir=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_fork_server_that_has_ended_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(process: ForkServerProcess) -> None:
        raise EOFError

    monkeypatch.setattr(ForkServerProcess, "start", ended)
    with pytest.raises(DeadkvError, match="cannot start a process for a bucket: the server that forks it has ended"):
        compile_buckets(sometimes, [1], out_dir=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def surroundings() -> tuple[dict[str, str], Path]:
    return dict(os.environ), Path.cwd()


def compared(expected: tuple[dict[str, str], Path], bucket: int) -> BucketModel:
    """Fails in any case, and tells what a worker finds around it."""
    threads = len(list(Path(f"/proc/{os.getppid()}/task").iterdir()))
    raise DeadkvError(f"surroundings {surroundings() == expected}, threads where it was forked {threads}")


@pytest.mark.parametrize("value", ["one", "another"])
def test_a_worker_has_the_surroundings_of_its_caller(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its environment and folder, not those of its server; and that only imports, which start no thread."""
    (tmp_path / value).mkdir()
    monkeypatch.chdir(tmp_path / value)
    monkeypatch.setenv("DEADKV_TEST", value)
    with pytest.raises(DeadkvError, match="surroundings True, threads where it was forked 1"):
        compile_buckets(partial(compared, surroundings()), [1], out_dir=tmp_path / "out")


SMALL = ("compile", "--model", "tiny", "--layers", "1", "--batch", "2")


BAD = [
    (("--bucket", "8,x"), "--bucket: 'x' is not a number of tokens"),
    (("--bucket", "8,"), "--bucket: '' is not a number of tokens"),
    (("--bucket", "8,16,8"), "bucket 8 is given 2 times"),
    (("--bucket", "8,12"), "bucket 12 is not a positive multiple of the block size 8"),
    (("--bucket", "8,-8"), "bucket -8 is not a positive multiple"),
    (("--bucket", "8,16", "--jobs", "0"), "the number of jobs must be at least 1, not 0"),
    (("--bucket", "8,16", "--run"), "--run compares the results of one bucket"),
    (("--bucket", "8,16", "--timeout", "-3"), "the time limit is -3 s"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[" ".join(options) for options, _ in BAD])
def test_a_bad_list_is_one_line_and_no_work(
    options: tuple[str, ...], message: str, deadkv: Run, tmp_path: Path, capsys: Any
) -> None:
    assert deadkv(*SMALL, *options, "--out", tmp_path / "out") == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and message in printed.err
    assert list(tmp_path.iterdir()) == []


# The block table of bucket 16 is [2, 2], of bucket 8 [2, 1].
PICKY = """
import json
inputs = json.loads(pathlib.Path("parameters.json").read_text())["after"]["parameters"]
if any("block_table" in found["name"] and found["shape"] == [2, 2] for found in inputs):
    sys.exit("no room for 16 tokens")
pathlib.Path("after.neff").write_bytes(b"NEFF")
"""


@pytest.fixture
def picky(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A compiler that fails on one of two buckets; what is kept of the failure goes to tmp_path."""
    monkeypatch.setenv("PATH", str(install_compiler(tmp_path / "bin", PICKY)), prepend=os.pathsep)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    yield


def test_the_command_names_what_failed_and_keeps_the_rest(
    picky: None, deadkv: Run, tmp_path: Path, capsys: Any
) -> None:
    arguments = ("--bucket", "16,8", "--jobs", "2", "--backend", "neuronx-cc", "--out", tmp_path / "made" / "out")
    assert deadkv(*SMALL, *arguments) == 2
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0].startswith("bucket 8: gathers 2 -> 0 · ") and lines[0].endswith(
        "compiled after.hlo.pb to after.neff"
    )
    assert lines[1].startswith("1 of 2 buckets compiled: gathers 2 -> 0 · ") and lines[2].startswith("wrote ")
    (failure,) = printed.err.splitlines()
    assert failure.startswith("deadkv: bucket 16: neuronx-cc failed with exit code 1; its last lines: no room for 16")
    names = sorted(path.name for path in (tmp_path / "made" / "out").iterdir())
    assert names == ["bucket-8", "report.json"] and len(list((tmp_path / "made").iterdir())) == 1


def test_the_command_prints_one_document(deadkv: Run, tmp_path: Path, capsys: Any) -> None:
    assert deadkv(*SMALL, "--bucket", "8,16", "--out", tmp_path / "out", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == {"out": str(tmp_path / "out"), "report": json.loads((tmp_path / "out/report.json").read_text())}


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])


def folder_of_namesakes(folder: Path) -> Path:
    """A folder in which a user keeps modules that are called as ours and torch are, and that must not be imported."""
    folder.mkdir()
    for name in ("passes", "tracing", "torch"):
        (folder / f"{name}.py").write_text("raise RuntimeError('a module of the current folder was imported')")
    return folder


def deadkv_process(*arguments: str, environment: dict[str, str], folder: Path) -> subprocess.Popen[str]:
    """`deadkv` as it is installed, run in `folder`."""
    program = Path(sys.executable).with_name("deadkv")
    return subprocess.Popen([program, *arguments], cwd=folder, env=environment, stdout=-1, stderr=-1, text=True)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_all_processes_end_with_the_command(name: str, tmp_path: Path) -> None:
    """Its worker, its compiler and the server of its workers. One command has a Python, and a bad folder, to itself."""
    body = "pathlib.Path(os.environ['STARTED']).write_text(f'{os.getpid()} {os.getppid()}'); time.sleep(600)"
    started, made, bad = (tmp_path / part for part in ("compiler.pid", "made", "bad"))
    path = f"{install_compiler(tmp_path / 'bin', body)}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "STARTED": str(started)}
    arguments = (*SMALL, "--bucket", "8,16", "--jobs", "1", "--backend", "neuronx-cc", "--out", str(made / "out"))
    made.mkdir()
    if name == "SIGTERM":
        process = ForkedCommand(*arguments, environment=environment, folder=tmp_path / "printed")
    else:
        process = deadkv_process(*arguments, environment=environment, folder=folder_of_namesakes(bad))
    with killed_at_the_end(process):
        wait_for(started)
        compiler, worker = map(int, started.read_text().split())
        server = parent_of(worker)
        assert parent_of(server) == process.pid and "libtorch" in Path(f"/proc/{server}/maps").read_text()
        process.send_signal(signal.Signals[name])
        _, error = process.communicate(timeout=120)
    for number in (compiler, worker):
        wait_until_gone(number)
    wait_until_gone(server, seconds=120)
    if name == "SIGTERM":
        assert error == "deadkv: stopped by SIGTERM before it was done\n" and list(made.iterdir()) == []
