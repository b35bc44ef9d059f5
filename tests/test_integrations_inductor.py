"""The passes inside Inductor, and what its caches make of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters
from torch._inductor.utils import fresh_cache
from torch.fx import Graph, GraphModule
from torch.fx.passes.infra.pass_base import PassBase, PassResult

from passes import DeadkvError
from tests.support.roads import decoder_step, static_cache_step
from tracing.graph import load
from tracing.integrations.inductor import InductorPasses

PRUNE = "prune-prefix-cache"
LIVENESS = "prune-prefix-cache{policy=liveness}"
pytestmark = pytest.mark.usefixtures("own_contracts")


@pytest.fixture(scope="module")
def empty_cache() -> Iterator[None]:
    """A folder of Inductor's own, empty at first; its precompiled headers take longest and serve every test."""
    with fresh_cache():
        yield


class Watched(InductorPasses):
    """Counts the gathers before and after each run."""

    def __init__(self, passes: list[str]) -> None:
        super().__init__(passes)
        self.gathers: list[tuple[int, int]] = []

    def __call__(self, graph: Graph) -> None:
        before = gathers(graph)
        super().__call__(graph)
        self.gathers.append((before, gathers(graph)))


def gathers(graph: Graph) -> int:
    """How many times a pool, a 4-D tensor, is gathered."""
    found = graph.find_nodes(op="call_function", target=torch.ops.aten.index.Tensor)
    return sum(node.meta["val"].dim() == 4 and len(node.args[1]) == 1 for node in found)


def compiled(step: InductorPasses, model: Any, inputs: Any) -> Any:
    """One call of the compiled model, traced and compiled anew or taken from the cache on disk."""
    torch._dynamo.reset()
    counters.clear()
    with torch._inductor.config.patch(post_grad_custom_pre_pass=step), torch.no_grad():
        return torch.compile(model, fullgraph=True)(*inputs)


def test_an_operand_that_the_kernel_ignores_is_cut_and_the_cache_knows_the_pass(
    empty_cache: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEADKV_DUMP", str(tmp_path))
    decoder, inputs = decoder_step("opaque-past")
    expected = decoder(*inputs)
    prune, liveness = Watched([PRUNE]), Watched([LIVENESS])
    torch.testing.assert_close(compiled(prune, decoder, inputs), expected)
    assert prune.gathers == [(2, 0)]
    dumped = [load(tmp_path / f"inductor/01.prune-prefix-cache.{when}.graph.json") for when in ("before", "after")]
    assert len(dumped[0].nodes) > len(dumped[1].nodes)
    assert counters["inductor"]["fxgraph_cache_miss"] == 1
    torch.testing.assert_close(compiled(prune, decoder, inputs), expected)
    assert prune.gathers == [(2, 0)]
    assert counters["inductor"]["fxgraph_cache_hit"] + counters["aot_autograd"]["autograd_cache_hit"] > 0
    compiled(liveness, decoder, inputs)
    assert liveness.gathers == [(2, 0)], "other options: what was cached for the first must not be taken"


def test_a_model_without_a_block_cache_is_left_alone(empty_cache: None) -> None:
    model, inputs = static_cache_step()
    expected = model(*inputs)
    step = Watched([LIVENESS])
    model, inputs = static_cache_step()
    torch.testing.assert_close(compiled(step, model, inputs), expected)
    assert step.gathers == [(0, 0)]


def test_the_identity_covers_options_order_and_disabled_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    identity = InductorPasses([PRUNE]).uuid()
    assert identity is not None and identity == InductorPasses(["prune-prefix-cache{inplace=true}"]).uuid()
    assert identity != InductorPasses([LIVENESS]).uuid()
    assert identity != InductorPasses([PRUNE, "dedup-prefix-cache"]).uuid()
    step = InductorPasses([PRUNE, "dedup-prefix-cache"])
    monkeypatch.setenv("DEADKV_DISABLE", "dedup-prefix-cache")
    assert step.uuid() == identity


@dataclass(frozen=True)
class Nameless(PassBase):
    """A pass that says nothing of itself."""

    inplace: bool = False

    def call(self, graph_module: GraphModule) -> PassResult:
        return PassResult(graph_module, False)


def test_a_pass_that_cannot_say_what_it_is_keeps_the_graph_out_of_caches() -> None:
    assert InductorPasses([PRUNE, Nameless()]).uuid() is None
    assert InductorPasses(["prune-prefix-cache{infer_contracts=true}"]).uuid() is None


class NotInPlace(PassBase):
    """A pass that always makes a new module."""

    def call(self, graph_module: GraphModule) -> PassResult:
        return PassResult(graph_module, False)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (NotInPlace(), "pass NotInPlace has no option inplace"),
        ("prune-prefix-cache{shrink_inputs=true}", "leave out the option shrink_inputs"),
        ("prune", "unknown pass 'prune'"),
    ],
)
def test_a_pass_that_does_not_fit_is_refused_at_once(step: Any, message: str) -> None:
    with pytest.raises(DeadkvError, match=message):
        InductorPasses([step])


def test_a_graph_of_no_module_is_refused() -> None:
    with pytest.raises(DeadkvError, match="belongs to no GraphModule"):
        InductorPasses([PRUNE])(Graph())
