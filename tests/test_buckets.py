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
from tracing import capture, compile_tkg
from tracing.buckets import BucketModel, BucketsResult, DecoderBuckets, compile_buckets
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


@pytest.mark.parametrize("frontend", ["make_fx", "export", "dynamo"])
def test_a_bucket_leaves_no_graph_and_no_cache_behind(frontend: str, tmp_path: Path) -> None:
    counts = []
    for round_, bucket in enumerate((8, 16, 24)):
        alone(bucket, tmp_path / str(round_), frontend)
        empty_caches()
        counts.append(living(*KINDS))
        assert not FakeTensorMode.cache and not graph_module._loader.eval_cache
    assert counts[1] == counts[2]


def test_a_dynamo_capture_holds_on_to_nothing_by_itself() -> None:
    capture(double, [torch.ones(2)], frontend="dynamo")
    before = living(Node, GraphModule)
    for size in (3, 4, 5):
        capture(double, [torch.ones(size)], frontend="dynamo")
    assert living(Node, GraphModule) == before


def test_what_is_written_depends_on_neither_jobs_nor_order(tmp_path: Path) -> None:
    """With Dynamo, which traces a shape otherwise once it has met another, unless it is made to forget."""
    trees = []
    for name, buckets, jobs in (("a", (8, 16), 2), ("b", (16, 8), 1)):
        compile_buckets(TINY, buckets, out_dir=tmp_path / name, jobs=jobs, frontend="dynamo", backend="hlo")
        trees.append(tree(tmp_path / name))
    assert trees[0] == trees[1]
    assert "sym" not in trees[0]["bucket-16/before.graph.txt"].decode()


def test_what_is_written_depends_on_no_bucket_before_it(tmp_path: Path) -> None:
    """With Dynamo, which traces a shape otherwise once it has met another, unless it is made to forget."""
    result = compile_buckets(TINY, (16, 8), out_dir=tmp_path / "both", frontend="dynamo", backend="hlo")
    assert [entry["bucket"] for entry in result.report["buckets"]] == [8, 16]
    for bucket in (8, 16):
        torch._dynamo.reset()
        assert tree(alone(bucket, tmp_path / str(bucket), "dynamo")) == tree(tmp_path / "both" / f"bucket-{bucket}")
        assert "sym" not in (tmp_path / str(bucket) / "before.graph.txt").read_text()


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


def test_if_every_bucket_fails_there_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DeadkvError, match=r"none of the 2 buckets compiled; bucket 2: no such bucket"):
        compile_buckets(sometimes, [3, 2], out_dir=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


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


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_workers_and_their_compilers_end_with_the_command(name: str, tmp_path: Path) -> None:
    body = "pathlib.Path(os.environ['STARTED']).write_text(f'{os.getpid()} {os.getppid()}'); time.sleep(600)"
    started, made = tmp_path / "compiler.pid", tmp_path / "made"
    made.mkdir()
    path = f"{install_compiler(tmp_path / 'bin', body)}{os.pathsep}{os.environ['PATH']}"
    command = [
        sys.executable, "-m", "tracing.cli", *SMALL, "--bucket", "8,16", "--jobs", "1", "--backend", "neuronx-cc",
        "--out", str(made / "out"),
    ]  # fmt: skip
    environment = {**os.environ, "PATH": path, "STARTED": str(started)}
    with subprocess.Popen(command, env=environment, stdout=-1, stderr=-1, text=True) as process:
        wait_for(started)
        process.send_signal(signal.Signals[name])
        _, error = process.communicate(timeout=120)
    for number in started.read_text().split():
        wait_until_gone(int(number))
    if name == "SIGTERM":
        assert error == "deadkv: stopped by SIGTERM before it was done\n" and list(made.iterdir()) == []
