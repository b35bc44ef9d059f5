"""shrink_inputs: inputs that lose their last use are dropped, and every caller is told which are left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.backends.registry import lookup_backend
from torch.export import export
from torch.fx import GraphModule

from passes import DeadkvError, PassPipeline, PrunePrefixCache, PruneVerificationError, verify_prune
from tests.support.builder import GraphBuilder, decode_graph, decode_inputs
from tests.support.prunes import assert_same_behaviour
from tracing import capture, compile_tkg, with_passes
from tracing.graph import load, paired_modules

aten = torch.ops.aten
SHRINK = PrunePrefixCache(policy="liveness", shrink_inputs=True)


def inputs_of(module: GraphModule) -> list[str]:
    return [str(node.target) for node in module.graph.find_nodes(op="placeholder")]


def test_the_interface_stays_unless_asked() -> None:
    result = PrunePrefixCache(policy="liveness")(decode_graph())
    assert result.report.unused_inputs == ("active_block_table",)
    assert inputs_of(result.graph_module) == ["x", "active_block_table"]
    assert result.input_map is None and result.report.input_map is None


@pytest.mark.parametrize("inplace", [False, True])
def test_an_input_that_only_the_site_read_is_dropped(inplace: bool) -> None:
    module, original = decode_graph(), decode_graph()
    result = replace(SHRINK, inplace=inplace)(module)
    assert inputs_of(result.graph_module) == ["x"]
    assert (result.graph_module is module) == inplace
    assert result.report.unused_inputs == ("active_block_table",)
    assert result.report.input_map == (0, None) and result.report.to_dict()["input_map"] == [0, None]
    assert "active_block_table" in result.report.removed
    assert result.report.summary["nodes_after"] == len(result.graph_module.graph.nodes)
    x, table = decode_inputs()
    assert result.input_map is not None
    (got,), (expected,) = result.graph_module(*result.input_map.select((x, table))), original(x, table)
    assert torch.equal(got, expected)


def graph(*, read_sum: bool = False, pool_is_input: bool = False) -> GraphModule:
    """Inputs: never used, a table that only the site reads (unless `read_sum`), x, never used."""
    build = GraphBuilder()
    build.input("never", 2)
    table = build.input("active_block_table", 3, 4, dtype=torch.int32)
    pool = build.input("past_key_values_0", 10, 4, 2, 8) if pool_is_input else None
    x = build.input("x", 3, 2, 16, 8)
    build.input("nor_this", 2)
    build.site(build.parameter("past_key_values.0", 10, 4, 2, 8) if pool is None else pool, table)
    extra = (build.call(aten.sum.default, table),) if read_sum else ()
    return build.module(build.call(aten.add.Tensor, x, 1), *extra)


def test_an_input_that_never_had_a_use_stays() -> None:
    result = SHRINK(graph())
    assert inputs_of(result.graph_module) == ["never", "x", "nor_this"]
    assert result.report.input_map == (0, None, 1, 2)
    again = SHRINK(result.graph_module)
    assert not again.modified and again.report.input_map == (0, 1, 2)


def test_an_input_with_another_use_stays() -> None:
    result = SHRINK(graph(read_sum=True))
    assert result.modified and result.input_map is not None and result.input_map.is_identity
    assert result.report.unused_inputs == ()


def test_a_pool_that_is_an_input_may_go_too() -> None:
    assert SHRINK(graph(pool_is_input=True)).report.input_map == (0, None, None, 1, 2)


def test_an_input_whose_size_is_still_needed_stays() -> None:
    """`zeros_like(site)` becomes `zeros([sym_size(table, 0), ...])`: the rewrite adds a use."""

    class Model(nn.Module):
        def forward(self, x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> Tensor:
            prior = past_key_values_0.index_select(0, block_table.reshape(-1))
            return x + torch.zeros_like(prior).sum()

    batch = torch.export.Dim("batch", min=2, max=64)
    shapes = {"x": None, "past_key_values_0": None, "block_table": {0: batch}}
    given = torch.ones(3), torch.zeros(10, 4, 2, 8), torch.zeros(3, 4, dtype=torch.int32)
    program = export(Model(), given, dynamic_shapes=shapes, strict=False)
    result = PrunePrefixCache(policy="liveness")(GraphModule(nn.Module(), program.graph))
    (size,) = (node for node in result.graph_module.graph.nodes if "sym_size" in str(node.target))
    assert size.args[0].target == "block_table"
    assert result.report.unused_inputs == ("past_key_values_0",)


@dataclass(frozen=True)
class Record:
    """What a capture may record, in the form that `gm.meta["capture"]` has."""

    inputs: tuple[str, ...]
    aliases: tuple[tuple[str, int], ...]


def test_recorded_inputs_and_aliases_are_told_by_position() -> None:
    module = graph()
    module.meta["capture"] = Record(tuple(inputs_of(module)), (("x", 0),))
    result = SHRINK(module)
    assert result.graph_module.meta["capture"] == Record(("never", "x", "nor_this"), (("x", 0),))
    assert module.meta["capture"].inputs == ("never", "active_block_table", "x", "nor_this")
    assert result.input_map is not None and result.input_map.aliases == ((1, 0),)


def test_an_input_that_an_output_aliases_is_never_dropped() -> None:
    module = graph()
    module.meta["capture"] = Record(tuple(inputs_of(module)), (("active_block_table", 0),))
    result = SHRINK(module)
    assert result.report.unused_inputs == ("active_block_table",)
    assert result.report.input_map == (0, 1, 2, 3)
    verify_prune(module, result.graph_module, result.report)


def test_inputs_in_containers_are_refused_before_anything_is_edited() -> None:
    def model(x: Tensor, state: dict[str, Tensor]) -> Tensor:
        state["past_key_values_0"].index_select(0, state["block_table"].reshape(-1))
        return x + 1

    state = {"past_key_values_0": torch.zeros(10, 4, 2, 8), "block_table": torch.zeros(3, 4, dtype=torch.int32)}
    root = nn.Module()
    root.forward = model  # type: ignore[method-assign]
    module = export(root, (torch.ones(2), state), strict=True).module()
    assert isinstance(module, GraphModule)
    names = {node.target: node for node in module.graph.find_nodes(op="placeholder")}
    code = module.code
    with pytest.raises(DeadkvError, match="shrink_inputs: the graph takes its inputs in containers"):
        replace(SHRINK, inplace=True, context=_context(names))(module)
    assert module.code == code


def _context(names: dict[Any, Any]) -> Any:
    from passes import TkgContext

    pool, table = (next(str(n) for n in names if part in str(n)) for part in ("past_key_values", "block_table"))
    return TkgContext(pools=(pool,), block_table=table)


Tamper = Callable[[GraphModule], None]


def drop(*names: str) -> Tamper:
    def tamper(module: GraphModule) -> None:
        for node in module.graph.find_nodes(op="placeholder"):
            if node.target in names:
                module.graph.erase_node(node)

    return tamper


def swap_inputs(module: GraphModule) -> None:
    first, second = module.graph.find_nodes(op="placeholder")[:2]
    second.append(first)


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (drop("never"), "an input was removed that had no use before"),
        (drop("nor_this"), "an input was removed that had no use before"),
        (swap_inputs, "the inputs changed"),
    ],
)
@pytest.mark.parametrize("with_report", [True, False])
def test_the_verifier_rejects_any_other_drop(tamper: Tamper, message: str, with_report: bool) -> None:
    module = graph()
    result = SHRINK(module)
    report = result.report if with_report else None
    verify_prune(module, result.graph_module, report)
    tamper(result.graph_module)
    with pytest.raises(PruneVerificationError, match=message):
        verify_prune(module, result.graph_module, report)


def test_the_verifier_rejects_a_drop_that_the_report_does_not_tell() -> None:
    module = graph()
    result = PrunePrefixCache(policy="liveness")(module)
    drop("active_block_table")(result.graph_module)
    with pytest.raises(PruneVerificationError, match="an input was removed"):
        verify_prune(module, result.graph_module, result.report)
    shrunk = SHRINK(module)
    for wrong in ((0, None, 2, 1), (0, 1, 2, 3), (None, 0, 1, 2)):
        with pytest.raises(PruneVerificationError, match="input map"):
            verify_prune(module, shrunk.graph_module, replace(shrunk.report, input_map=wrong))


def test_the_verifier_rejects_a_dropped_alias() -> None:
    module = graph()
    result = SHRINK(module)
    module.meta["capture"] = result.graph_module.meta["capture"] = Record((), (("active_block_table", 0),))
    with pytest.raises(PruneVerificationError, match="whose new value is an output"):
        verify_prune(module, result.graph_module, result.report)


def test_select_wants_one_value_for_each_input() -> None:
    result = SHRINK(decode_graph())
    assert result.input_map is not None and result.input_map.select("ab") == ("a",)
    with pytest.raises(DeadkvError, match="takes 2 inputs, but 1 were given"):
        result.input_map.select("a")


class TinyCache(nn.Module):
    """Gathers a prefix that nothing reads; nothing else reads the table."""

    def __init__(self) -> None:
        super().__init__()
        self.past_key_values = nn.ParameterList([nn.Parameter(torch.ones(10, 4, 2, 8), requires_grad=False)])

    def forward(self, x: Tensor, block_table: Tensor) -> Tensor:
        self.past_key_values[0].index_select(0, block_table.reshape(-1)).reshape(3, -1, 2, 8).permute(0, 2, 1, 3)
        return x + self.past_key_values[0].sum()


X, TABLE = torch.arange(3.0), torch.arange(12, dtype=torch.int32).reshape(3, 4) % 9


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("inner", [None, "aot_eager"])
def test_torch_compile_gives_the_inner_backend_what_is_left(inner: str | None, dynamic: bool) -> None:
    given: list[Sequence[Tensor]] = []

    def record(module: GraphModule, inputs: list[Tensor], **options: Any) -> Any:
        given.append(inputs)
        assert len(inputs_of(module)) == len(inputs)
        return module.forward if inner is None else lookup_backend(inner)(module, inputs)

    backend = with_passes(record, ["prune-prefix-cache{policy=liveness,shrink_inputs=true}"])
    torch._dynamo.reset()
    compiled = torch.compile(TinyCache(), backend=backend, fullgraph=True, dynamic=dynamic)
    for _ in range(2):
        assert torch.equal(compiled(X, TABLE), X + 640)
    tensors = [value for value in given[0] if isinstance(value, Tensor)]
    assert tensors and all(tensor.dtype != torch.int32 for tensor in tensors)


@pytest.mark.parametrize("frontend", ["make_fx", "export", "dynamo"])
def test_compile_hands_on_the_smaller_graph(frontend: str, tmp_path: Path) -> None:
    model = TinyCache()
    result = compile_tkg(model, (X, TABLE), passes=[SHRINK], backend="hlo", out_dir=tmp_path / "out", frontend=frontend)
    assert result.input_map.indices == (0, None)
    assert torch.equal(result.graph_module(*result.input_map.select((X, TABLE)))[0], model(X, TABLE))
    parameters = (tmp_path / "out" / "parameters.json").read_text(encoding="utf-8")
    assert parameters.count("block_table") == 1
    assert "block_table" in (tmp_path / "out" / "diff.txt").read_text(encoding="utf-8")
    assert result.graph_module.meta["capture"].inputs == ("x",)
    before, after = (load(tmp_path / "out" / f"{name}.graph.json") for name in ("before", "after"))
    verify_prune(*paired_modules(before, after))


def test_a_refused_prune_gets_its_inputs_back() -> None:
    @dataclass(frozen=True)
    class Wrong(PrunePrefixCache):
        def call(self, graph_module: GraphModule) -> Any:
            result = super().call(graph_module)
            drop("never")(result.graph_module)
            return result

    module = graph()
    module.meta["capture"] = Record(tuple(inputs_of(module)), ())
    names, record = inputs_of(module), module.meta["capture"]
    with pytest.raises(PruneVerificationError):
        PassPipeline([Wrong(policy="liveness", shrink_inputs=True, inplace=True)])(module)
    assert inputs_of(module) == names and module.meta["capture"] == record


def test_the_shrunk_graph_behaves_the_same_in_every_frontend() -> None:
    for frontend in ("make_fx", "export", "dynamo"):
        module = capture(TinyCache(), (X, TABLE), frontend=frontend)
        result = SHRINK(module)
        assert result.input_map is not None
        kept = PrunePrefixCache(policy="liveness")(module).graph_module
        assert_same_behaviour(module, kept, (X, TABLE))
        assert torch.equal(result.graph_module(X)[0], kept(X, TABLE)[0])
