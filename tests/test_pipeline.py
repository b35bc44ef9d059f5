"""The trace pipeline as a library, the torch.compile wrapper, and what pruning makes possible on the CPU."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.backends.registry import lookup_backend
from torch.fx import GraphModule

from passes import DeadkvError, PrunePrefixCache, PruneResult, PruneVerificationError
from tests.support.captures import tiny_decoder, tiny_graph
from tests.support.prunes import assert_same_interface, check_prune
from tracing import compile_tkg, with_passes
from tracing.decoder import build_decoder, random_inputs

FRONTENDS = ("make_fx", "export", "dynamo")


@pytest.mark.parametrize("frontend", FRONTENDS)
@pytest.mark.parametrize("variant", ["base", "cache-update"])
def test_the_padded_table_stops_the_unpruned_graph_only(variant: str, frontend: str) -> None:
    decoder = tiny_decoder(variant)
    inputs = random_inputs(decoder, 1, padded=True)
    assert (inputs[decoder.input_names.index("active_block_table")] == -1).any()
    before = copy.deepcopy(tiny_graph(variant, frontend))  # cache-update writes its pools
    with pytest.raises(IndexError):
        before(*inputs)
    after = PrunePrefixCache()(before).graph_module
    edited = tiny_decoder("hand-edited" if variant == "base" else variant)
    outputs = after(*inputs)
    if variant == "base":
        for found, expected in zip(outputs, edited(*inputs), strict=True):
            assert torch.equal(found, expected)
    assert all(torch.isfinite(output).all() for output in outputs)


@pytest.mark.parametrize("frontend", FRONTENDS)
@pytest.mark.parametrize("variant", ["base", "cache-update", "no-block-tkg", "cte-prefix", "cte"])
def test_pruning_changes_no_bit_of_any_output_or_cache(variant: str, frontend: str) -> None:
    inputs = random_inputs(tiny_decoder(variant), 1, padded=False)
    result = check_prune(tiny_graph(variant, frontend), inputs)
    assert result.modified == (variant in ("base", "cache-update"))


def test_compile_without_an_output_folder_returns_graphs_only() -> None:
    decoder = build_decoder("tiny", batch=2, bucket=64)
    result = compile_tkg(decoder, decoder.example_inputs(), aliases=decoder.aliases())
    assert result.modified and result.backend is None and result.out_dir is None
    assert result.report is not None and result.report.summary["gathers_after"] == 0
    assert_same_interface(result.before, result.graph_module)
    pools = dict(result.graph_module.named_parameters())
    assert all(any(pools[name] is pool for name in pools) for pool in decoder.aliases())


@dataclass(frozen=True)
class ReverseOutputs(PrunePrefixCache):
    """The pass, with a bug: it reverses the outputs."""

    def call(self, graph_module: GraphModule) -> PruneResult:
        result = super().call(graph_module)
        (output,) = result.graph_module.graph.find_nodes(op="output")
        output.args = (output.args[0][::-1],)
        return result


def test_a_refused_prune_leaves_no_folder(tmp_path: Path) -> None:
    decoder = build_decoder("tiny", batch=2, bucket=64)
    arguments: dict[str, Any] = {"passes": [ReverseOutputs()], "backend": "hlo", "out_dir": tmp_path / "out"}
    with pytest.raises(PruneVerificationError):
        compile_tkg(decoder, decoder.example_inputs(), **arguments)
    assert list(tmp_path.iterdir()) == []
    result = compile_tkg(decoder, decoder.example_inputs(), keep_unverified=True, **arguments)
    assert result.graph_module is result.before
    assert (tmp_path / "out" / "after.hlo.pb").exists()


def test_a_model_that_does_not_trace_leaves_no_folder(tmp_path: Path) -> None:
    def model(x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x

    with pytest.raises(DeadkvError, match=r"test_pipeline\.py"):
        compile_tkg(model, [torch.ones(2)], backend=None, out_dir=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


class TinyCache(nn.Module):
    """Writes its pool in place with an unused result, and gathers a prefix that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.past_key_values = nn.ParameterList([nn.Parameter(torch.zeros(10, 4, 2, 8), requires_grad=False)])

    def forward(self, x: Tensor, block_table: Tensor) -> Tensor:
        pool = self.past_key_values[0]
        pool.index_select(0, block_table.reshape(-1)).reshape(3, -1, 2, 8).permute(0, 2, 1, 3)
        pool.index_copy_(0, block_table[:, 0].long(), x)
        return x + 1


@pytest.mark.parametrize("inner", ["eager", "aot_eager", lambda module, inputs: module.forward])
def test_torch_compile_runs_the_passes_first(inner: Any) -> None:
    seen: list[GraphModule] = []

    def record(module: GraphModule, inputs: list[Tensor], **options: Any) -> Any:
        seen.append(module)
        return inner(module, inputs) if callable(inner) else lookup_backend(inner)(module, inputs)

    model = TinyCache()
    x, table = torch.randn(3, 4, 2, 8), torch.arange(12, dtype=torch.int32).reshape(3, 4) % 9
    backend = with_passes(record, ["prune-prefix-cache{policy=liveness}"])
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    for _ in range(2):
        assert torch.equal(compiled(x, table), x + 1)
    assert torch.equal(model.past_key_values[0][table[:, 0].long()], x)
    (module,) = seen
    names = [str(node.target) for node in module.graph.nodes]
    assert "index_copy_" in names and "index_select" not in names


def test_options_of_torch_compile_reach_the_inner_backend() -> None:
    given: dict[str, Any] = {}

    def record(module: GraphModule, inputs: list[Tensor], **options: Any) -> Any:
        given.update(options)
        return module.forward

    backend = with_passes(record, ["prune-prefix-cache"])
    torch.compile(TinyCache(), backend=backend, options={"level": 3})(
        torch.randn(3, 4, 2, 8), torch.zeros(3, 4, dtype=torch.int32)
    )
    assert given["options"] == {"level": 3}


def test_an_inner_backend_that_is_not_there_is_one_line() -> None:
    with pytest.raises(DeadkvError, match=r"no torch\.compile backend 'neuron-x'"):
        with_passes("neuron-x", ["prune-prefix-cache"])
