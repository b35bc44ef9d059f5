"""The FXPass adapter in stand-ins of vLLM Neuron's pass managers: the documented one and that of a public fork."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from passes import DeadkvError, PrunePrefixCache
from tests.support.fakes.vllm_neuron import (
    AliasingOutputRewritePass,
    ForkAliasingPass,
    ForkPassManager,
    FXPassManager,
    InPlaceToOutOfPlacePass,
    get_default_pass_manager,
)
from tests.support.nki import nki
from tracing import capture
from tracing.decoder import build_decoder, random_caches, random_inputs, random_weights
from tracing.integrations.vllm_neuron import DeadkvFXPass, insert_pass


def dynamo_graph(model: Any, inputs: tuple[Tensor, ...]) -> tuple[GraphModule, list[Any]]:
    """What a Dynamo backend is given: a torch-level graph with parameters among its inputs, and its arguments."""
    seen: list[tuple[GraphModule, list[Any]]] = []

    def keep(gm: GraphModule, example_inputs: list[Any]) -> Any:
        seen.append((gm, example_inputs))
        return gm

    with torch.no_grad():
        torch.compile(model, backend=keep, fullgraph=True)(*inputs)
    return seen[0]


@pytest.fixture(scope="module")
def decoder() -> tuple[Any, tuple[Tensor, ...]]:
    made = build_decoder("tiny", "cache-update", batch=2, bucket=32, device="cpu")
    random_weights(made, 0)
    random_caches(made, 1)
    return made, random_inputs(made, 3, padded=False)


def test_it_goes_in_front_of_the_aliasing_pass() -> None:
    manager = get_default_pass_manager()
    added = insert_pass(manager)
    names = [fx_pass.name for fx_pass in manager._passes]
    assert names == ["DeviceRewriterPass", "DeadkvPass", "AliasingOutputRewritePass", "InPlaceToOutOfPlacePass"]
    assert added is manager._passes[1] and added.returns == "graph"


def test_the_decoder_through_the_manager(decoder: Any) -> None:
    model, inputs = decoder
    gm, arguments = dynamo_graph(model, inputs)
    plain, pruned = get_default_pass_manager(), get_default_pass_manager()
    insert_pass(pruned)
    before = plain.run_passes(capture_of(gm))
    after = pruned.run_passes(capture_of(gm))
    assert plain._passes[1].io_map == pruned._passes[2].io_map
    assert plain._passes[1].analysed - pruned._passes[2].analysed >= 16  # 4 sites of reshape, gather, reshape, permute
    assert len([n for n in after.graph.nodes if "index_select" in str(n.target)]) == 0
    with torch.no_grad():
        clones = [[a.clone() if isinstance(a, Tensor) else a for a in arguments] for _ in range(2)]
        for ours, theirs in zip(after(*clones[0]), before(*clones[1]), strict=True):
            torch.testing.assert_close(ours, theirs)
    assert "01_after_DeadkvPass.txt" in pruned.dumps


def capture_of(gm: GraphModule) -> GraphModule:
    """A graph of its own: the manager's passes edit what they are given."""
    copied = GraphModule(gm, torch.fx.Graph())
    copied.graph.output(copied.graph.graph_copy(gm.graph, {}))
    for ours, theirs in zip(copied.graph.nodes, gm.graph.nodes, strict=True):
        ours.meta = dict(theirs.meta)
    copied.recompile()
    return copied


class Writes(nn.Module):
    """Someone else's model: in-place methods, an item assignment, and nothing dead."""

    def forward(self, x: Tensor, cache: Tensor) -> Tensor:
        cache[0] = x
        cache.mul_(2)
        return x + cache.sum()


@pytest.mark.parametrize("fork", [False, True])
def test_in_place_operations_reach_the_passes_after_it(fork: bool) -> None:
    gm, _ = dynamo_graph(Writes(), (torch.ones(3), torch.zeros(2, 3)))
    manager: FXPassManager = ForkPassManager() if fork else FXPassManager()
    aliasing = ForkAliasingPass() if fork else AliasingOutputRewritePass()
    manager.add_pass(aliasing)
    added = insert_pass(manager)
    assert added.returns == ("graph and metadata" if fork else "graph")
    names = [node.name for node in gm.graph.nodes]
    made = manager.run_passes(gm)
    assert [node.name for node in made.graph.nodes] == names
    inputs = [str(node.target) for node in made.graph.find_nodes(op="placeholder")]
    assert {out: inputs[index] for out, index in aliasing.io_map.items()} == {1: "L_cache_"}


def test_the_in_place_methods_are_met() -> None:
    gm, _ = dynamo_graph(Writes(), (torch.ones(3), torch.zeros(2, 3)))
    manager = get_default_pass_manager()
    insert_pass(manager)
    manager.run_passes(gm)
    last = manager._passes[-1]
    assert isinstance(last, InPlaceToOutOfPlacePass) and "mul_" in last.met


def block_attention(x: Tensor, table: Tensor, k_cache: Tensor) -> Any:
    """A kernel that reads its cache through the table, and writes the cache."""
    if k_cache.device.type != "meta":
        k_cache.add_(1)
    return x * 1, k_cache


ATTEND = nki(block_attention)


class Cached(nn.Module):
    """Gathers a prefix that nobody reads; with `kernel` a kernel call reads and writes the pool itself."""

    def __init__(self, kernel: bool) -> None:
        super().__init__()
        self.past_key_values = nn.ParameterList([nn.Parameter(torch.zeros(5, 4, 1, 2), requires_grad=False)])
        self.kernel = kernel

    def forward(self, x: Tensor, active_block_table: Tensor) -> Tensor:
        pool = self.past_key_values[0]
        blocks = pool.index_select(0, active_block_table.reshape(-1))
        blocks.reshape(active_block_table.shape[0], -1, *pool.shape[2:]).permute(0, 2, 1, 3)
        out: Tensor = ATTEND(x, active_block_table, pool)[0] if self.kernel else x + 1
        return out


CACHED_INPUTS = (torch.ones(2, 4), torch.zeros(2, 2, dtype=torch.int32))


def test_kernel_calls_stay_and_the_prefix_beside_them_goes() -> None:
    gm, _ = dynamo_graph(Cached(kernel=True), CACHED_INPUTS)
    manager = get_default_pass_manager()
    insert_pass(manager, [PrunePrefixCache(policy="liveness")])
    made = manager.run_passes(gm)
    targets = [str(node.target) for node in made.graph.nodes]
    assert sum("nki_kernel_wrapper" in target for target in targets) == 1
    assert not any("permute" in target or "index_select" in target for target in targets)
    aliasing = manager._passes[2]
    inputs = [str(node.target) for node in made.graph.find_nodes(op="placeholder")]
    assert isinstance(aliasing, AliasingOutputRewritePass)
    assert any("past_key_values" in inputs[index] for index in aliasing.io_map.values())


def test_a_captured_graph_with_the_fork_form(decoder: Any) -> None:
    model, inputs = decoder
    adapter = DeadkvFXPass(returns="graph and metadata")
    made = adapter.run(capture(model, inputs), target_device="xla", io_map={})
    assert isinstance(made, tuple) and isinstance(made[0], GraphModule) and made[1] == {}


def test_an_input_that_is_no_longer_used_keeps_its_place() -> None:
    adapter = DeadkvFXPass([PrunePrefixCache(policy="liveness", shrink_inputs=True)])
    gm, _ = dynamo_graph(Cached(kernel=False), CACHED_INPUTS)
    with pytest.raises(DeadkvError, match="binds inputs by position: leave out the option shrink_inputs"):
        adapter.run(gm)


@pytest.mark.parametrize(
    ("manager", "options", "message"),
    [
        (FXPassManager(), {}, "FXPassManager holds 0 lists of passes"),
        (get_default_pass_manager(), {"before": "No"}, "has no No, only DeviceRewriterPass, AliasingOutputRewritePass"),
        (get_default_pass_manager(), {"passes": ["no-such-pass"]}, "unknown pass 'no-such-pass'"),
        (get_default_pass_manager(), {"returns": "both"}, "give 'graph' or 'graph and metadata'"),
    ],
)
def test_what_cannot_be_inserted(manager: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DeadkvError, match=message):
        insert_pass(manager, **options)
