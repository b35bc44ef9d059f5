"""The passes in front of torch.compile backends, given by hand or as the registered backend `deadkv`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.backends.registry import list_backends, lookup_backend
from torch._dynamo.exc import BackendCompilerFailed
from torch.fx import GraphModule

from tests.support.roads import caches, decoder_step, same, static_cache_step
from tracing import with_passes
from tracing.integrations.dynamo import deadkv

LIVENESS = "prune-prefix-cache{policy=liveness}"
Recorder = Callable[[GraphModule, list[Tensor]], Any]


class Recorded:
    """A backend that hands on to another, and remembers what it was given."""

    def __init__(self, inner: str = "eager") -> None:
        self.inner = inner
        self.modules: list[GraphModule] = []
        self.options: list[dict[str, Any]] = []

    def __call__(self, module: GraphModule, inputs: list[Tensor], **options: Any) -> Any:
        self.modules.append(module)
        self.options.append(options)
        return lookup_backend(self.inner)(module, inputs)

    @property
    def gathers(self) -> list[int]:
        """How many gathers each module holds."""
        names = ([str(node.target) for node in module.graph.nodes] for module in self.modules)
        return [sum("index_select" in name for name in found) for found in names]


@pytest.mark.parametrize("inner", ["eager", "aot_eager"])
@pytest.mark.parametrize("variant", ["base", "cache-update"])
def test_the_decoder_compiles_without_the_gathers(inner: str, variant: str) -> None:
    decoder, inputs = decoder_step(variant)
    backend = Recorded(inner)
    compiled = torch.compile(decoder, backend=with_passes(backend, ["prune-prefix-cache"]), fullgraph=True)
    results = [*compiled(*inputs), *caches(decoder)]
    expected, inputs = decoder_step(variant)
    assert same(results, [*expected(*inputs), *caches(expected)])
    assert backend.gathers == [0]


def test_inductor_compiles_what_the_passes_leave() -> None:
    decoder, inputs = decoder_step("opaque-past")
    expected = decoder(*inputs)
    compiled = torch.compile(decoder, backend=with_passes("inductor", ["prune-prefix-cache"]), fullgraph=True)
    torch.testing.assert_close(compiled(*inputs), expected)


@pytest.mark.parametrize("inner", ["eager", "aot_eager"])
def test_a_model_without_a_block_cache_is_handed_on_as_it_is(inner: str) -> None:
    model, inputs = static_cache_step()
    plain, pruned = Recorded(inner), Recorded(inner)
    expected = torch.compile(model, backend=plain, fullgraph=True)(*inputs)
    torch._dynamo.reset()
    model, inputs = static_cache_step()
    found = torch.compile(model, backend=with_passes(pruned, [LIVENESS]), fullgraph=True)(*inputs)
    assert torch.equal(found, expected)
    (before,), (after,) = plain.modules, pruned.modules
    assert before.code == after.code


class PrefixReader(nn.Module):
    """Gathers a prefix that only a shape is taken of; batch and number of blocks may vary."""

    def __init__(self) -> None:
        super().__init__()
        self.past_key_values = nn.ParameterList([nn.Parameter(torch.rand(10, 4, 2, 8), requires_grad=False)])

    def forward(self, x: Tensor, block_table: Tensor) -> Tensor:
        pool = self.past_key_values[0]
        pool.index_select(0, block_table.reshape(-1)).reshape(x.shape[0], -1, 2, 8).permute(0, 2, 1, 3)
        return x + pool[block_table.long()].sum()


def step_of(batch: int, blocks: int) -> tuple[Tensor, Tensor]:
    """Inputs of PrefixReader."""
    return torch.rand(batch, 7), torch.arange(batch * blocks, dtype=torch.int32).reshape(batch, blocks) % 9


def test_one_dynamic_graph_serves_every_batch() -> None:
    model, backend = PrefixReader(), Recorded()
    compiled = torch.compile(model, backend=with_passes(backend, [LIVENESS]), fullgraph=True, dynamic=True)
    for batch, blocks in ((2, 3), (3, 4), (5, 2)):
        inputs = step_of(batch, blocks)
        assert torch.equal(compiled(*inputs), model(*inputs))
    assert backend.gathers == [0]


def test_a_guard_that_fails_compiles_and_prunes_anew() -> None:
    model, backend = PrefixReader(), Recorded()
    compiled = torch.compile(model, backend=with_passes(backend, [LIVENESS]), fullgraph=True, dynamic=False)
    for batch in (2, 3, 2, 3):
        inputs = step_of(batch, 3)
        assert torch.equal(compiled(*inputs), model(*inputs))
    assert backend.gathers == [0, 0]


class LosesAnInput(nn.Module):
    """The block table is read by nothing but the dead prefix."""

    def __init__(self) -> None:
        super().__init__()
        self.past_key_values = nn.ParameterList([nn.Parameter(torch.rand(10, 4, 2, 8), requires_grad=False)])

    def forward(self, block_table: Tensor, x: Tensor) -> Tensor:
        self.past_key_values[0].index_select(0, block_table.reshape(-1)).reshape(3, -1, 2, 8).permute(0, 2, 1, 3)
        return x + 1


@pytest.mark.parametrize("inner", ["eager", "aot_eager", "inductor"])
def test_dropped_inputs_reach_no_compiled_code(inner: str) -> None:
    model, backend = LosesAnInput(), Recorded(inner)
    spec = "prune-prefix-cache{policy=liveness,shrink_inputs=true}"
    compiled = torch.compile(model, backend=with_passes(backend, [spec]), fullgraph=True)
    table, x = torch.zeros(3, 4, dtype=torch.int32), torch.rand(3)
    for _ in range(2):
        assert torch.equal(compiled(table, x), x + 1)
    assert [node.target for node in backend.modules[0].graph.find_nodes(op="placeholder")] == ["L_x_"]


def test_deadkv_is_a_backend_by_name() -> None:
    assert "deadkv" in list_backends()
    assert lookup_backend("deadkv") is deadkv
    model, inputs = PrefixReader(), step_of(3, 4)
    compiled = torch.compile(model, backend="deadkv", options={"inner": "eager", "passes": [LIVENESS]}, fullgraph=True)
    assert torch.equal(compiled(*inputs), model(*inputs))


def test_the_backend_prunes_and_hands_other_options_on() -> None:
    model, backend = PrefixReader(), Recorded()
    options = {"inner": backend, "passes": LIVENESS, "level": 3}
    torch.compile(model, backend="deadkv", options=options, fullgraph=True)(*step_of(3, 4))
    assert backend.gathers == [0] and backend.options == [{"options": {"level": 3}}]


def test_a_mode_reaches_the_inner_backend() -> None:
    backend = Recorded()
    torch.compile(PrefixReader(), backend=with_passes(backend, [LIVENESS]), mode="reduce-overhead")(*step_of(3, 4))
    assert backend.options == [{"mode": "reduce-overhead"}]


def test_inductor_takes_options_and_refuses_unknown_ones_as_it_does_alone() -> None:
    model, inputs = PrefixReader(), step_of(3, 4)
    known = torch.compile(model, backend="deadkv", options={"max_autotune": False, "passes": LIVENESS})
    torch.testing.assert_close(known(*inputs), model(*inputs))
    with pytest.raises((RuntimeError, BackendCompilerFailed), match="Unexpected optimization option brave"):
        torch.compile(PrefixReader(), backend="deadkv", options={"brave": True})(*inputs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inner": "deadkv"}, "backend deadkv cannot be its own inner backend"),
        ({"inner": "neuron-x"}, r"no torch\.compile backend 'neuron-x': install the package"),
        ({"inner": "eager", "passes": ["prune"]}, "unknown pass 'prune': available are"),
    ],
)
def test_a_wrong_option_is_one_clear_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BackendCompilerFailed, match=message):
        torch.compile(PrefixReader(), backend="deadkv", options=options)(*step_of(3, 4))
