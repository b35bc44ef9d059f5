"""The torch-neuronx backend against a module with exactly the documented signature of `torch_neuronx.trace`."""

import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.fx import GraphModule, symbolic_trace

from passes.errors import DeadkvError
from tracing.backends import BackendRequest, get_backend
from tracing.capture import capture
from tracing.decoder import Decoder, build_decoder, random_caches, random_inputs, random_weights


@dataclass
class Traced:
    """What the stand-in was given, and its result."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    outputs: Any = None

    def save(self, path: str) -> None:
        Path(path).write_bytes(b"TorchScript")


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Traced:
    record = Traced()
    module = types.ModuleType("torch_neuronx")
    module.__spec__ = ModuleSpec("torch_neuronx", None)
    module.trace = _strict_trace(record)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_neuronx", module)
    return record


def _strict_trace(record: Traced) -> Callable[..., Traced]:
    def trace(
        func: Any,
        example_inputs: Any,
        *_: Any,
        input_output_aliases: dict[Any, int] = {},  # noqa: B006 - the documented signature
        compiler_workdir: str | None = None,
        compiler_args: Any = None,
        partitioner_config: Any = None,
        inline_weights_to_neff: bool = True,
        cpu_backend: bool = False,
    ) -> Traced:
        assert not _, "all options are keyword-only"
        assert isinstance(func, nn.Module), "aliases are looked up among the module's named parameters"
        storages = {parameter.data_ptr() for _name, parameter in func.named_parameters()}
        for state, index in input_output_aliases.items():
            assert isinstance(state, nn.Parameter) and state.data_ptr() in storages
            assert isinstance(index, int)
        assert isinstance(example_inputs, tuple) and all(type(t) is torch.Tensor for t in example_inputs)
        assert isinstance(compiler_args, list) and isinstance(compiler_workdir, str)
        with torch.no_grad():
            record.outputs = func(*example_inputs)
        record.calls.append({**locals(), "aliases": input_output_aliases})
        return record

    return trace


def tiny(variant: str, device: str = "cpu") -> Decoder:
    decoder = build_decoder("tiny", variant, batch=2, bucket=32, device=device)
    if device == "cpu":
        random_weights(decoder, 0)
        random_caches(decoder, 1)
    return decoder


def request_for(decoder: Decoder, inputs: Any, out: Path, target: str = "inf2", *args: str) -> BackendRequest:
    graph = capture(decoder, inputs, aliases=decoder.aliases())
    return BackendRequest(graph, graph, inputs, graph.meta["capture"].aliases, target, out, args)


def test_the_graph_is_traced_with_its_parameters_and_aliases(traced: Traced, tmp_path: Path) -> None:
    decoder = tiny("base")
    inputs = random_inputs(decoder, 3, padded=False)
    result = get_backend("torch-neuronx").run(request_for(decoder, inputs, tmp_path))
    (call,) = traced.calls
    assert call["aliases"] == decoder.aliases()
    assert all(key is pool for key, pool in zip(call["aliases"], decoder.aliases(), strict=True))
    assert call["inline_weights_to_neff"] is False
    assert call["compiler_args"] == ["--target", "inf2", "--model-type", "transformer", "--auto-cast", "none", "-O2"]
    assert call["compiler_workdir"] == str(tmp_path / "compiler_workdir")
    assert result.artefacts == ("after.pt",)
    assert (tmp_path / "after.pt").read_bytes() == b"TorchScript"


@pytest.mark.parametrize("variant", ["base", "cache-update", "regional", "scan"])
def test_on_inf2_attention_is_plain_torch_and_writes_nothing_in_place(
    variant: str, traced: Traced, tmp_path: Path
) -> None:
    decoder = tiny(variant)
    inputs = random_inputs(decoder, 3, padded=False)
    pools = [pool.detach().clone() for pool in decoder.aliases()]
    get_backend("torch-neuronx").run(request_for(decoder, inputs, tmp_path))
    module = traced.calls[0]["func"]
    graphs = [found.graph for found in module.modules() if isinstance(found, GraphModule)]
    assert not any("attention_block_tkg." in str(node.target) for graph in graphs for node in graph.nodes)
    for pool, old in zip(decoder.aliases(), pools, strict=True):
        assert torch.equal(pool, old)
    with torch.no_grad():
        expected = decoder(*inputs)
    for ours, theirs in zip(traced.outputs, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_on_trn2_the_op_stays(traced: Traced, tmp_path: Path) -> None:
    decoder = tiny("base")
    request = request_for(decoder, random_inputs(decoder, 3, padded=False), tmp_path, "trn2", "-O1")
    get_backend("torch-neuronx").run(request)
    assert traced.calls[0]["func"] is request.after
    assert traced.calls[0]["compiler_args"][-1] == "-O1"


def test_a_cache_read_through_a_view_cannot_be_inlined(traced: Traced, tmp_path: Path) -> None:
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


def test_weights_without_values_are_refused(traced: Traced, tmp_path: Path) -> None:
    decoder = tiny("base", "meta")
    request = request_for(decoder, decoder.example_inputs(), tmp_path)
    with pytest.raises(DeadkvError, match=r"torch-neuronx needs real tensors, but '.*' has no values"):
        get_backend("torch-neuronx").run(request)
    assert not traced.calls and not list(tmp_path.iterdir())


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
    inputs: Any, aliases: Any, message: str, traced: Traced, tmp_path: Path
) -> None:
    with pytest.raises(DeadkvError, match=message):
        get_backend("torch-neuronx").run(BackendRequest(doubled(), doubled(), inputs, aliases, "inf2", tmp_path))


def test_a_dropped_input_is_not_passed(traced: Traced, tmp_path: Path) -> None:
    after = symbolic_trace(lambda x: x * 2)
    request = BackendRequest(doubled(), after, (torch.ones(2), torch.zeros(3)), (), "inf2", tmp_path)
    get_backend("torch-neuronx").run(request)
    assert [tuple(t.shape) for t in traced.calls[0]["example_inputs"]] == [(2,)]


def test_a_compiler_error_is_one_line(traced: Traced, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("neuronx-cc failed with 70\nmore")

    monkeypatch.setattr(sys.modules["torch_neuronx"], "trace", fail)
    with pytest.raises(DeadkvError, match=r"^torch_neuronx\.trace failed: neuronx-cc failed with 70$"):
        get_backend("torch-neuronx").run(
            BackendRequest(doubled(), doubled(), (torch.ones(2), torch.ones(2)), (), "inf2", tmp_path)
        )


def test_a_full_disk_is_one_line(traced: Traced, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0\nmore")

    monkeypatch.setattr(Traced, "save", fail)
    with pytest.raises(DeadkvError, match=r"^cannot write after\.pt: \[enforce fail .* vs 0; check the space"):
        get_backend("torch-neuronx").run(
            BackendRequest(doubled(), doubled(), (torch.ones(2), torch.ones(2)), (), "inf2", tmp_path)
        )
