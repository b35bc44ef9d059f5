"""The passes on exported programs: signature, state dict and graph stay in step, and files survive a round trip."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

from passes import DeadkvError
from tests.support.roads import caches, decoder_step, same
from tracing.integrations.exported import exported_with_passes

LIVENESS = "prune-prefix-cache{policy=liveness}"
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch.export.save meets its own


class Cached(nn.Module):
    """Writes a pool, gathers it for nothing; returns an input, a parameter's value and a new tensor."""

    def __init__(self, live: bool = False) -> None:
        super().__init__()
        self.live = live
        self.past_key_values = nn.ParameterList([nn.Parameter(torch.rand(10, 4, 2, 8), requires_grad=False)])
        self.register_buffer("steps", torch.zeros(1))
        self.register_buffer("scale", torch.full((8,), 2.0), persistent=False)

    def forward(self, x: Tensor, block_table: Tensor) -> dict[str, Tensor]:
        pool = self.past_key_values[0]
        prior = pool.index_select(0, block_table.reshape(-1)).reshape(x.shape[0], -1, 2, 8).permute(0, 2, 1, 3)
        self.steps.add_(1)
        result = x * self.scale
        return {"result": result + prior.sum() if self.live else result, "x": x, "steps": self.steps}


def inputs_of(batch: int) -> tuple[Tensor, Tensor]:
    return torch.rand(batch, 8), torch.arange(batch * 4, dtype=torch.int32).reshape(batch, 4) % 9


def gathers(program: ExportedProgram) -> int:
    return sum("index_select" in str(node.target) for node in program.graph.nodes)


def reloaded(program: ExportedProgram) -> ExportedProgram:
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    return torch.export.load(file)


@pytest.mark.parametrize("decompose", [False, True], ids=["training", "decomposed"])
def test_a_pruned_program_is_valid_and_survives_a_file(decompose: bool) -> None:
    model, inputs = Cached(), inputs_of(3)
    program = export(model, inputs)
    if decompose:
        program = program.run_decompositions({})
    before, state = str(program.graph_signature), dict(program.state_dict)
    pruned = exported_with_passes(program, [LIVENESS])
    pruned.validate()
    assert gathers(pruned) == 0
    assert str(program.graph_signature) == before
    assert list(pruned.state_dict) == list(state)
    assert all(pruned.state_dict[name] is tensor for name, tensor in state.items())
    found, expected = reloaded(pruned).module()(*inputs), Cached()(*inputs)
    assert list(found) == list(expected) and same(list(found.values()), list(expected.values()))


def test_the_program_that_was_given_is_left_alone() -> None:
    program = export(Cached(), inputs_of(3))
    code, graph = program.graph_module.code, program.graph_module.graph
    pruned = exported_with_passes(program, [LIVENESS])
    assert pruned is not program and gathers(program) == 1
    assert program.graph_module.graph is graph and program.graph_module.code == code


def test_a_live_prefix_leaves_the_program_as_it_is() -> None:
    program = export(Cached(live=True), inputs_of(3))
    assert exported_with_passes(program, [LIVENESS]) is program


def test_symbolic_sizes_and_their_ranges_stay() -> None:
    batch = Dim("batch", min=2, max=6)
    program = export(Cached(), inputs_of(3), dynamic_shapes={"x": {0: batch}, "block_table": {0: batch}})
    pruned = reloaded(exported_with_passes(program, [LIVENESS]))
    assert gathers(pruned) == 0 and len(pruned.range_constraints) == len(program.range_constraints)
    for size in (2, 6):
        inputs = inputs_of(size)
        assert torch.equal(pruned.module()(*inputs)["result"], Cached()(*inputs)["result"])
    with pytest.raises(Exception, match=r"<= 6"):
        pruned.module()(*inputs_of(7))


@pytest.mark.parametrize("variant", ["base", "cache-update", "opaque-past"])
def test_the_decoder_goes_this_road(variant: str) -> None:
    decoder, inputs = decoder_step(variant)
    pruned = reloaded(exported_with_passes(export(decoder, inputs), ["prune-prefix-cache"]))
    assert gathers(pruned) == 0
    module: Any = pruned.module()
    found = [*module(*inputs), *(module.get_parameter(name) for name in decoder_pools(decoder))]
    assert same(found, [*decoder(*inputs), *caches(decoder)])


def decoder_pools(decoder: nn.Module) -> list[str]:
    """The names of the pools."""
    names = {id(parameter): name for name, parameter in decoder.named_parameters()}
    return [names[id(pool)] for pool in decoder.aliases()]  # type: ignore[operator, union-attr]


class Plain(nn.Module):
    """Not ours, without a block cache."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layer(x)
        return result


def test_a_model_without_a_block_cache_is_left_alone() -> None:
    program = export(Plain().eval(), (torch.rand(2, 3, 8),))
    assert exported_with_passes(program, [LIVENESS]) is program


class LosesAnInput(Cached):
    """The block table is read by nothing but the dead prefix."""

    def forward(self, x: Tensor, block_table: Tensor) -> Tensor:  # type: ignore[override]
        self.past_key_values[0].index_select(0, block_table.reshape(-1)).reshape(3, -1, 2, 8).permute(0, 2, 1, 3)
        return x + 1


def test_dropping_inputs_is_refused() -> None:
    program = export(LosesAnInput(), inputs_of(3))
    with pytest.raises(DeadkvError, match="an exported program keeps its inputs"):
        exported_with_passes(program, ["prune-prefix-cache{policy=liveness,shrink_inputs=true}"])
    assert gathers(exported_with_passes(program, [LIVENESS])) == 0


def test_the_road_dumps_its_graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEADKV_DUMP", str(tmp_path))
    exported_with_passes(export(Cached(), inputs_of(3)), [LIVENESS])
    assert len(list((tmp_path / "exported").glob("01.prune-prefix-cache.*"))) == 4
