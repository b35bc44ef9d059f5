"""DEADKV_DUMP: the graphs around each pass that changed something, as Python and as graph files."""

from __future__ import annotations

import copy
import runpy
from pathlib import Path

import pytest
import torch
from torch.fx import GraphModule

from passes import DeadkvError, PassPipeline, PrunePrefixCache
from tests.support.commands import run_deadkv
from tests.support.outcomes import captured
from tracing import capture, compile_tkg, with_passes
from tracing.decoder import build_decoder, random_caches, random_inputs, random_weights
from tracing.dump import DUMP, graph_dump
from tracing.graph import diff, document, dumps, load
from tracing.graph.python_text import python_text

SMALL = ("--model", "tiny", "--layers", "1", "--batch", "2", "--backend", "hlo")
PRUNE = "01.prune-prefix-cache"
FILES = [f"{PRUNE}.{when}.{ending}" for when in ("after", "before") for ending in ("graph.json", "py")]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def base() -> GraphModule:
    return captured("base")


def test_only_passes_that_changed_something_are_dumped(base: GraphModule, tmp_path: Path) -> None:
    pipeline = PassPipeline(["dedup-prefix-cache", "prune-prefix-cache", "dedup-prefix-cache"])
    result = pipeline(base, graph_dump(tmp_path, "llama 3/tkg"))
    number = 1 + [run.modified for run in result.runs].index(True)
    assert sum(run.modified for run in result.runs) == 1
    expected = [name.replace("01.", f"{number:02}.") for name in FILES]
    assert list(files(tmp_path)) == [f"llama_3_tkg/{name}" for name in expected]


def test_nothing_is_written_where_nothing_changed_or_nobody_asked(
    base: GraphModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    PassPipeline(["dedup-prefix-cache"])(base, graph_dump(tmp_path / "dump", "graph"))
    assert not (tmp_path / "dump").exists()
    monkeypatch.delenv(DUMP, raising=False)
    assert graph_dump(None, "graph") is None


def test_the_files_are_the_graphs(base: GraphModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = PassPipeline(["prune-prefix-cache"])(base, graph_dump(tmp_path, "graph"))
    before, after = (tmp_path / "graph" / f"{PRUNE}.{when}.graph.json" for when in ("before", "after"))
    assert diff(load(before), document(base)).same
    assert diff(load(after), document(result.graph_module)).same
    assert run_deadkv(monkeypatch, "diff", before, after) == 1
    assert run_deadkv(monkeypatch, "verify", before, after) == 0


def test_the_python_files_can_be_imported_built_and_run(tmp_path: Path) -> None:
    decoder = build_decoder("tiny", "regional", layers=2, batch=2, bucket=64, device="cpu")
    random_weights(decoder, 0)
    random_caches(decoder, 0)
    inputs = random_inputs(decoder, 0, padded=False)
    out = compile_tkg(decoder, inputs, aliases=decoder.aliases(), passes=[PrunePrefixCache(policy="liveness")],
                      dump=tmp_path)  # fmt: skip
    state = dict(out.before.named_parameters()) | dict(out.before.named_buffers())
    for when, gm in (("before", out.before), ("after", out.graph_module)):
        module = runpy.run_path(str(tmp_path / "graph" / f"{PRUNE}.{when}.py"))["Graph"]
        assert all(parameter.is_meta for parameter in module().parameters())
        built = module("cpu")
        built.load_state_dict({name: state[name].detach().clone() for name in built.state_dict()})
        with torch.no_grad():
            expected, found = gm(*inputs), built(*inputs)
        assert all(map(torch.equal, expected, found))


@pytest.mark.parametrize("variant", ["base", "scan", "speculation"])
@pytest.mark.parametrize("frontend", ["make_fx", "export", "dynamo"])
def test_every_graph_is_importable_text(variant: str, frontend: str, tmp_path: Path) -> None:
    decoder = build_decoder("tiny", variant, layers=2, batch=2, bucket=64)
    if variant == "scan" and frontend == "dynamo":
        frontend = "make_fx"  # torch 2.9 cannot trace its body
    gm = capture(decoder, decoder.example_inputs(), frontend=frontend)
    (tmp_path / "graph.py").write_text(python_text(gm, "A graph."))
    assert runpy.run_path(str(tmp_path / "graph.py"))["Graph"]() is not None


def test_a_function_that_cannot_be_imported_is_none(tmp_path: Path) -> None:
    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    graph.output(graph.call_function(lambda value: value, (x,)))
    (tmp_path / "graph.py").write_text(python_text(GraphModule({}, graph), "A graph."))
    module = runpy.run_path(str(tmp_path / "graph.py"))
    with pytest.raises(TypeError):
        module["Graph"]()(1)


def test_a_further_graph_has_a_folder_of_its_own(base: GraphModule, tmp_path: Path) -> None:
    for _ in range(3):
        PassPipeline(["prune-prefix-cache"])(base, graph_dump(tmp_path, "graph"))
    found = files(tmp_path)
    assert sorted({name.partition("/")[0] for name in found}) == ["graph", "graph-1", "graph-2"]
    assert found[f"graph/{PRUNE}.after.graph.json"] == found[f"graph-2/{PRUNE}.after.graph.json"]


def test_a_pass_in_place_is_dumped_and_undone_if_that_fails(base: GraphModule, tmp_path: Path) -> None:
    gm = copy.deepcopy(base)
    content = dumps(document(gm))
    (tmp_path / "file").write_text("")
    step = PrunePrefixCache(inplace=True)
    with pytest.raises(DeadkvError, match=r"cannot write the dump of pass prune-prefix-cache to .*: File exists"):
        PassPipeline([step])(gm, graph_dump(tmp_path / "file", "graph"))
    assert dumps(document(gm)) == content
    PassPipeline([step])(gm, graph_dump(tmp_path / "dump", "graph"))
    assert (tmp_path / "dump" / "graph" / f"{PRUNE}.before.graph.json").read_text() == content
    assert dumps(document(gm)) != content


def test_torch_compile_writes_a_folder_a_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DUMP, str(tmp_path))
    decoder = build_decoder("tiny", layers=1, batch=2, bucket=64, device="cpu")
    random_weights(decoder, 0)
    random_caches(decoder, 0)
    compiled = torch.compile(decoder, backend=with_passes("eager", ["prune-prefix-cache"]))
    with torch.no_grad():
        compiled(*random_inputs(decoder, 0, padded=False))
    assert list(files(tmp_path)) == [f"graph/{name}" for name in FILES]


def test_compile_dumps_each_bucket_as_another_process_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DUMP, str(tmp_path / "dump"))
    assert run_deadkv(monkeypatch, "compile", *SMALL, "--bucket", "64,128", "--out", tmp_path / "out") == 0
    found = files(tmp_path / "dump")
    assert list(found) == [f"bucket-{tokens}/{name}" for tokens in (128, 64) for name in FILES]
    decoder = build_decoder("tiny", layers=1, batch=2, bucket=64)
    gm = capture(decoder, decoder.example_inputs(), aliases=decoder.aliases())
    PassPipeline(["prune-prefix-cache"])(gm, graph_dump(tmp_path / "here", "bucket-64"))
    assert files(tmp_path / "here").items() <= found.items()


def test_a_dump_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(DUMP, str(tmp_path / "file"))
    assert run_deadkv(monkeypatch, "compile", *SMALL, "--bucket", "64", "--out", tmp_path / "out") == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and "name a folder that can be written in DEADKV_DUMP" in printed.err
    assert not (tmp_path / "out").exists()
