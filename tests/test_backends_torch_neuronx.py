"""The torch-neuronx backend against a module with exactly the documented signature of `torch_neuronx.trace`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.fx import GraphModule, symbolic_trace

from passes.errors import DeadkvError
from tests.support.fakes.torch_neuronx import Calls, Traced, installed
from tracing.backends import BackendRequest, get_backend
from tracing.capture import capture
from tracing.decoder import Decoder, build_decoder, random_caches, random_inputs, random_weights


@pytest.fixture
def neuronx() -> Iterator[Calls]:
    with installed() as calls:
        yield calls


def tiny(variant: str, device: str = "cpu") -> Decoder:
    decoder = build_decoder("tiny", variant, batch=2, bucket=32, device=device)
    if device == "cpu":
        random_weights(decoder, 0)
        random_caches(decoder, 1)
    return decoder


def request_for(decoder: Decoder, inputs: Any, out: Path, target: str = "inf2", *args: str) -> BackendRequest:
    graph = capture(decoder, inputs, aliases=decoder.aliases())
    return BackendRequest(graph, graph, inputs, graph.meta["capture"].aliases, target, out, args)


def test_the_graph_is_traced_with_its_parameters_and_aliases(neuronx: Calls, tmp_path: Path) -> None:
    decoder = tiny("base")
    inputs = random_inputs(decoder, 3, padded=False)
    result = get_backend("torch-neuronx").run(request_for(decoder, inputs, tmp_path))
    (call,) = neuronx.traced
    assert call.aliases == decoder.aliases()
    assert all(key is pool for key, pool in zip(call.aliases, decoder.aliases(), strict=True))
    assert call.options["inline_weights_to_neff"] is False
    assert call.options["compiler_args"] == [
        "--target",
        "inf2",
        "--model-type",
        "transformer",
        "--auto-cast",
        "none",
        "-O2",
    ]
    assert call.options["compiler_workdir"] == str(tmp_path / "compiler_workdir")
    assert result.artefacts == ("after.pt",)
    assert (tmp_path / "after.pt").read_bytes() == b"TorchScript"


@pytest.mark.parametrize(
    ("variant", "target"),
    [("base", "inf2"), ("base", "trn2"), ("cache-update", "inf2"), ("regional", "inf2"), ("scan", "inf2")],
)
def test_attention_is_plain_torch_and_writes_nothing_in_place(
    variant: str, target: str, neuronx: Calls, tmp_path: Path
) -> None:
    decoder = tiny(variant)
    inputs = random_inputs(decoder, 3, padded=False)
    pools = [pool.detach().clone() for pool in decoder.aliases()]
    get_backend("torch-neuronx").run(request_for(decoder, inputs, tmp_path, target))
    module = neuronx.traced[0].func
    graphs = [found.graph for found in module.modules() if isinstance(found, GraphModule)]
    assert not any("attention_block_tkg." in str(node.target) for graph in graphs for node in graph.nodes)
    for pool, old in zip(decoder.aliases(), pools, strict=True):
        assert torch.equal(pool, old)
    with torch.no_grad():
        expected = decoder(*inputs)
    for ours, theirs in zip(neuronx.traced[0].outputs, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_callers_options_are_passed_on(neuronx: Calls, tmp_path: Path) -> None:
    request = BackendRequest(doubled(), doubled(), (torch.ones(2), torch.ones(2)), (), "trn2", tmp_path, ("-O1",))
    get_backend("torch-neuronx").run(request)
    assert neuronx.traced[0].options["compiler_args"][-1] == "-O1"


def test_a_cache_read_through_a_view_cannot_be_inlined(neuronx: Calls, tmp_path: Path) -> None:
    decoder = tiny("cache-update")
    request = request_for(decoder, random_inputs(decoder, 3, padded=False), tmp_path)
    graph = request.after.graph
    pool = next(node for node in graph.find_nodes(op="get_attr") if "past_key_values" in str(node.target))
    with graph.inserting_after(pool):
        graph.call_function(torch.ops.aten.view.default, (pool, [-1]))
    with pytest.raises(
        DeadkvError, match=r"attention_block_tkg \(node \w+\) writes a cache that .* read through a view"
    ):
        get_backend("torch-neuronx").run(request)


def test_weights_without_values_are_refused(neuronx: Calls, tmp_path: Path) -> None:
    decoder = tiny("base", "meta")
    request = request_for(decoder, decoder.example_inputs(), tmp_path)
    with pytest.raises(DeadkvError, match=r"torch_neuronx\.trace needs real tensors, but '.*' has no values"):
        get_backend("torch-neuronx").run(request)
    assert not neuronx.traced and not list(tmp_path.iterdir())


def doubled() -> GraphModule:
    return symbolic_trace(lambda x, unused: x * 2)


@pytest.mark.parametrize(
    ("inputs", "aliases", "message"),
    [
        ((torch.ones(2),), (), "takes 2 inputs, but 1"),
        ((torch.ones(2), 3), (), "input 'unused' is 3"),
        ((torch.ones(2), torch.ones(2, device="meta")), (), "'unused' has no values"),
        ((torch.ones(2), torch.ones(2)), (("x", 0),), "alias 'x' -> output 0: the graph has no parameter"),
    ],
)
def test_what_cannot_be_traced_is_refused(
    inputs: Any, aliases: Any, message: str, neuronx: Calls, tmp_path: Path
) -> None:
    with pytest.raises(DeadkvError, match=message):
        get_backend("torch-neuronx").run(BackendRequest(doubled(), doubled(), inputs, aliases, "inf2", tmp_path))


def test_a_dropped_input_is_not_passed(neuronx: Calls, tmp_path: Path) -> None:
    after = symbolic_trace(lambda x: x * 2)
    request = BackendRequest(doubled(), after, (torch.ones(2), torch.zeros(3)), (), "inf2", tmp_path)
    get_backend("torch-neuronx").run(request)
    assert [tuple(t.shape) for t in neuronx.traced[0].inputs] == [(2,)]


def test_a_compiler_error_is_one_line(neuronx: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("neuronx-cc failed with 70\nmore")

    monkeypatch.setattr(sys.modules["torch_neuronx"], "trace", fail)
    with pytest.raises(DeadkvError, match=r"^torch_neuronx\.trace failed: neuronx-cc failed with 70 \| more$"):
        get_backend("torch-neuronx").run(
            BackendRequest(doubled(), doubled(), (torch.ones(2), torch.ones(2)), (), "inf2", tmp_path)
        )


def test_a_dry_run_needs_another_backend(neuronx: Calls) -> None:
    with pytest.raises(DeadkvError, match="compiles as it traces: choose --backend neuronx-cc for a dry run"):
        get_backend("torch-neuronx", dry_run=True)


def test_a_full_disk_is_one_line(neuronx: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0\nmore")

    monkeypatch.setattr(Traced, "save", fail)
    with pytest.raises(DeadkvError, match=r"^cannot write after\.pt: \[enforce fail .* vs 0; check the space"):
        get_backend("torch-neuronx").run(
            BackendRequest(doubled(), doubled(), (torch.ones(2), torch.ones(2)), (), "inf2", tmp_path)
        )
