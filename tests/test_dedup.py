"""dedup-prefix-cache: blocks gathered twice are gathered once; every twin in which that could be seen stays."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from passes import DedupPrefixCache, PassPipeline, PruneVerificationError, TkgContext, available_passes, verify_dedup
from passes.dedup.report import Rewired
from passes.modules import copy_graph, module_like
from passes.specs import make_pass
from tests.cases import ops
from tests.cases.sites import embedded, indexed, site
from tests.support import random_graphs as fuzz
from tests.support.builder import GraphBuilder
from tests.support.prunes import assert_same_behaviour, assert_same_interface, gathers_left
from tracing import capture, compile_tkg, with_passes

aten = torch.ops.aten
Body = Callable[[Tensor, Tensor, Tensor], object]

LEVELS = ("fx", "dynamo", "export", "make_fx")
TYPED = ("dynamo", "export", "make_fx")
"""Levels at which values are recorded: without, `pool[table]` may be a view, and item assignment is refused."""


@dataclass(frozen=True)
class Form:
    """A function with two live gathers of one pool, and whether one is enough; else a word of the reason."""

    body: Body
    kept: str | None = None
    levels: tuple[str, ...] = LEVELS
    reported: bool = True


FORMS: dict[str, Form] = {}


def form(name: str, **options: Any) -> Callable[[Body], Body]:
    def add(body: Body) -> Body:
        FORMS[name] = Form(body, **options)
        return body

    return add


@form("go_table_reshaped_again")
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return (x + site(past_key_values_0, block_table)) * site(past_key_values_0, block_table)


@form("go_shared_index")
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    index = block_table.reshape(-1)
    one, other = past_key_values_0.index_select(0, index), past_key_values_0.index_select(0, index)
    return x + one.reshape(3, -1, 2, 8).permute(0, 2, 1, 3), other.sum()


@form("go_indices_first")
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    """Both indices, then the second gather's consumer is built before the first one's."""
    indices = block_table.view(-1), block_table.view(-1)
    one, other = (torch.index_select(past_key_values_0, 0, index) for index in indices)
    late = other.view(3, 16, 2, 8).transpose(1, 2)
    return x * late + one.view(3, 16, 2, 8).transpose(1, 2)


@form("go_advanced", levels=TYPED)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return (x + indexed(past_key_values_0, block_table)) * indexed(past_key_values_0, block_table)


@form("go_embedding_and_copies")
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return (x + embedded(past_key_values_0, block_table)) * embedded(past_key_values_0, block_table)


@form("go_tiled_and_dequantized", levels=TYPED)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    def gathered() -> Tensor:
        tiled = (past_key_values_0.to(torch.float64) * 0.5).reshape(-1, 2, 2, 8)
        index = (block_table.reshape(-1) * 2).unsqueeze(-1) + torch.ops.aten.arange.default(2)
        return tiled.index_select(0, index.reshape(-1)).reshape(3, -1, 2, 8).permute(0, 2, 1, 3)

    return (x + gathered()) * gathered()


@form("go_one_is_returned")
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x + site(past_key_values_0, block_table), site(past_key_values_0, block_table)


@form("go_write_to_scratch_between", levels=TYPED)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    one = x + site(past_key_values_0, block_table)
    one.mul_(2)
    return one + site(past_key_values_0, block_table)


@form("go_write_after_both")
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    one, other = site(past_key_values_0, block_table), site(past_key_values_0, block_table)
    past_key_values_0.index_copy_(0, block_table[0].long(), x[0, 0, :8].reshape(4, 4, 2, 2).repeat(1, 1, 1, 4))
    return x + one, other.sum()


@form("go_kernel_that_reads_between")
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    one = ops.attend(x, past_key_values_0, None, site(past_key_values_0, block_table))
    return ops.attend(one, past_key_values_0, None, site(past_key_values_0, block_table))


@form("go_assert_between", levels=("export", "make_fx"))
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    one = x + site(past_key_values_0, block_table)
    torch.ops.aten._assert_async.msg((one == one).any(), "not a number")
    return one * site(past_key_values_0, block_table)


@form("stay_copy_between", kept="may write what it reads in between")
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    one = x + site(past_key_values_0, block_table)
    past_key_values_0[:3].copy_(x[:, :, :4].transpose(1, 2))
    return one * site(past_key_values_0, block_table)


@form("stay_index_copy_between", kept="may write what it reads in between")
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    one = x + site(past_key_values_0, block_table)
    past_key_values_0.index_copy_(0, block_table[0, :3].long(), x[:, :, :4].transpose(1, 2))
    return one * site(past_key_values_0, block_table)


@form("stay_setitem_between", kept="may write what it reads in between", levels=TYPED)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    one = x + indexed(past_key_values_0, block_table)
    past_key_values_0[1] = 0.5
    return one * indexed(past_key_values_0, block_table)


@form("stay_alias_written_between", kept="may write what it reads in between")
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    alias = past_key_values_0.transpose(0, 1)
    index = block_table.reshape(-1)
    one = x + past_key_values_0.index_select(0, index).sum()
    alias.add_(1)
    return one * past_key_values_0.index_select(0, index).sum()


@form("stay_table_written_between", kept="may write what it reads in between")
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    one = x + site(past_key_values_0, block_table)
    block_table.view(-1).add_(1).clamp_(max=8)
    return one * site(past_key_values_0, block_table)


@form("stay_other_input_written_between", kept="may write what it reads in between")
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    """`x` may be a view of the pool."""
    one = site(past_key_values_0, block_table).sum()
    x.add_(one)
    return x * site(past_key_values_0, block_table)


@form("stay_opaque_between", kept="may write what it reads in between")
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    one = x + site(past_key_values_0, block_table)
    one = ops.attend_unknown(one, past_key_values_0, block_table)
    return one * site(past_key_values_0, block_table)


@form("stay_opaque_reads_copy", kept="may write the copy")
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    one, other = site(past_key_values_0, block_table), site(past_key_values_0, block_table)
    return ops.attend_unknown(x, past_key_values_0, block_table, one) * other


@form("stay_first_written_later", kept="may write the copy")
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    one, other = site(past_key_values_0, block_table), site(past_key_values_0, block_table)
    one.mul_(2)
    return x + one + other


@form("stay_second_written_through_view", kept="may write the copy")
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    one, other = site(past_key_values_0, block_table), site(past_key_values_0, block_table)
    other.transpose(0, 1)[0].add_(1)
    return x + one + other


@form("stay_both_returned", kept="outlive the graph")
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x + 1, site(past_key_values_0, block_table), site(past_key_values_0, block_table)


@form("stay_views_of_both_returned", kept="outlive the graph")
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    one, other = site(past_key_values_0, block_table), site(past_key_values_0, block_table)
    return x + one, one[0], other.transpose(2, 3)


@form("stay_different_index", kept="", reported=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    one = past_key_values_0.index_select(0, block_table.reshape(-1) + 0)
    other = past_key_values_0.index_select(0, block_table.reshape(-1) + 1)
    return x + one.sum() * other.sum()


@form("stay_different_pool_shape", kept="", reported=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    one = past_key_values_0.index_select(0, block_table.reshape(-1))
    other = past_key_values_0.reshape(-1, 2, 2, 8).index_select(0, block_table.reshape(-1))
    return x + one.sum() * other.sum()


def example_inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, pool = torch.randn(3, 2, 16, 8, generator=generator), torch.randn(10, 4, 2, 8, generator=generator)
    pool[5, 1, 1, 3] = torch.nan
    return x, pool, torch.randperm(8, generator=generator)[:4].repeat(3, 1).to(torch.int32)


def traced(body: Body, level: str) -> GraphModule:
    return torch.fx.symbolic_trace(body) if level == "fx" else capture(body, example_inputs(), frontend=level)


def check_dedup(module: GraphModule, inputs: Any = None, **options: Any) -> Any:
    """Runs the pass and checks what must hold of every run; returns its result."""
    code = module.print_readable(print_output=False)
    dedup = DedupPrefixCache(**options)
    result = dedup(module)
    assert module.print_readable(print_output=False) == code
    result.graph_module.graph.lint()
    dedup.verify(module, result)
    assert_same_interface(module, result.graph_module)
    assert result.modified == bool(result.report.removed) == bool(result.report.rewired)
    assert result.report.summary["nodes_after"] == len(result.graph_module.graph.nodes)
    assert not dedup(result.graph_module).modified
    if inputs is not None:
        assert_same_behaviour(module, result.graph_module, inputs)
        assert_same_sharing(module, result.graph_module, inputs)
    return result


def assert_same_sharing(before: GraphModule, after: GraphModule, inputs: Any) -> None:
    """Outputs that were tensors of their own still are."""
    shared = []
    for module in (before, after):
        given = copy.deepcopy(list(inputs))
        leaves = torch.utils._pytree.tree_leaves((module(*given), given))
        pointers = [found.untyped_storage().data_ptr() for found in leaves if isinstance(found, Tensor)]
        shared.append([pointers.index(pointer) for pointer in pointers])
    assert shared[0] == shared[1]


@pytest.mark.parametrize(
    ("name", "level"), [pytest.param(n, level, id=f"{n}-{level}") for n, f in FORMS.items() for level in f.levels]
)
def test_form(name: str, level: str) -> None:
    found = FORMS[name]
    module = traced(found.body, level)
    assert gathers_left(module) == 2
    result = check_dedup(module, example_inputs())
    left = 1 if found.kept is None else 2
    assert gathers_left(result.graph_module) == result.report.summary["gathers_after"] == left
    entries = result.report.duplicates
    assert len(entries) == int(found.reported)
    for entry in entries:
        assert entry.status == ("merged" if found.kept is None else "kept")
        assert found.kept is None or found.kept in entry.reason


def test_the_chain_and_the_index_go_with_the_gather() -> None:
    module = traced(FORMS["go_table_reshaped_again"].body, "make_fx")
    result = check_dedup(module)
    operators = [str(node.target) for node in result.graph_module.graph.nodes if node.op == "call_function"]
    assert [name.split(".")[1] for name in operators] == ["view", "index_select", "view", "permute", "add", "mul"]
    assert result.report.headline == "gathers 2 -> 1 · nodes 14 -> 10 · 6.14 kB a step less"


def test_three_of_a_kind_become_one_and_only_one_may_be_returned() -> None:
    def body(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
        copies = [past_key_values_0.index_select(0, block_table.reshape(-1)) for _ in range(4)]
        return x + copies[0].sum() + copies[2].sum(), copies[1], copies[3]

    result = check_dedup(traced(body, "make_fx"), example_inputs())
    assert [entry.status for entry in result.report.duplicates] == ["merged", "merged", "kept"]


def test_a_dead_repetition_is_left_to_the_pruning_pass() -> None:
    def body(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
        site(past_key_values_0, block_table).neg()
        return x + site(past_key_values_0, block_table)

    module = traced(body, "make_fx")
    assert not check_dedup(module).modified
    both = PassPipeline(["prune-prefix-cache{policy=liveness}", "dedup-prefix-cache"])(module)
    assert [run.modified for run in both.runs] == [True, False]
    assert len(both.reports) == 1


def test_pools_that_are_parameters_are_one_pool_however_often_they_are_read() -> None:
    build = GraphBuilder()
    x, table = build.input("x", 3, 2, 16, 8), build.input("active_block_table", 3, 4, dtype=torch.int32)
    copies = [build.site(build.parameter(f"past_key_values.{n}", 10, 4, 2, 8), table) for n in (0, 1, 0, 1)]
    total = x
    for found in copies:
        total = build.call(aten.add.Tensor, total, found)
    module = build.module(total)
    result = check_dedup(module, (torch.randn(3, 2, 16, 8), example_inputs()[2]))
    assert [(entry.layer, entry.role, entry.first) for entry in result.report.duplicates] == [
        (0, "K", "index_select"), (0, "V", "index_select_1"),
    ]  # fmt: skip


def test_unknown_literals_are_never_taken_to_be_equal() -> None:
    class Index:
        def __repr__(self) -> str:
            return "0"

    graph = Graph()
    pool, table = graph.placeholder("past_key_values_0"), graph.placeholder("block_table")
    gathers = [graph.call_method("index_select", (pool, 0, graph.call_method("add", (table, Index())))) for _ in "ab"]
    graph.output(tuple(graph.call_method("sum", (found,)) for found in gathers))
    assert not DedupPrefixCache()(GraphModule(torch.nn.Module(), graph)).modified


def test_equal_numbers_of_another_type_are_another_index() -> None:
    build = GraphBuilder()
    table, pool = build.input("active_block_table", 3, 4), build.parameter("past_key_values.0", 10, 4, 2, 8)
    shifted = [build.call(aten.add.Scalar, table, by) for by in (0.0, -0.0, True, 1)]
    chosen = [build.call(aten._to_copy.default, found, dtype=torch.int64) for found in shifted]
    copies = [build.call(aten.index.Tensor, pool, [index]) for index in chosen]
    module = build.module(*(build.call(aten.sum.default, found) for found in copies))
    assert not check_dedup(module).modified


def test_the_context_names_what_the_graph_does_not() -> None:
    def body(x: Tensor, arg0: Tensor, arg1: Tensor) -> object:
        return (x + site(arg0, arg1)) * site(arg0, arg1)

    module = traced(body, "make_fx")
    assert check_dedup(module).report.notes
    assert check_dedup(module, example_inputs(), context=TkgContext(pools=("arg0",), block_table="arg1")).modified


def test_the_pass_is_registered_and_edits_in_place_if_asked() -> None:
    assert available_passes()["dedup-prefix-cache"] is DedupPrefixCache
    assert make_pass("dedup-prefix-cache{inplace=true}") == DedupPrefixCache(inplace=True)
    module = traced(FORMS["go_shared_index"].body, "export")
    result = PassPipeline(["dedup-prefix-cache{inplace=true}"])(module)
    assert result.graph_module is module and result.modified and gathers_left(module) == 1
    (run,) = result.runs
    assert run.report is not None and run.report.to_dict()["schema"] == "deadkv.dedup-report/1"


@pytest.mark.usefixtures("own_contracts")
def test_the_uuid_tells_the_passes_and_their_options_apart() -> None:
    contexts = (None, TkgContext(block_table="table"))
    assert len({DedupPrefixCache(context).uuid() for context in contexts}) == 2


class Twice(torch.nn.Module):
    """Gathers the same blocks for two readers."""

    def __init__(self) -> None:
        super().__init__()
        pool = torch.arange(640.0).reshape(10, 4, 2, 8)
        self.past_key_values = torch.nn.ParameterList([torch.nn.Parameter(pool, requires_grad=False)])

    def forward(self, x: Tensor, block_table: Tensor) -> tuple[Tensor, Tensor]:
        pool = self.past_key_values[0]
        return x + site(pool, block_table), x * site(pool, block_table)


@pytest.mark.parametrize("frontend", TYPED)
def test_compile_writes_the_report_and_the_smaller_graph(frontend: str, tmp_path: Path) -> None:
    model, (x, _, table) = Twice(), example_inputs()
    steps = ["prune-prefix-cache", "dedup-prefix-cache"]
    result = compile_tkg(model, (x, table), passes=steps, backend="hlo", out_dir=tmp_path / "out", frontend=frontend)
    assert [run.modified for run in result.pipeline.runs] == [False, True]
    for found, expected in zip(result.graph_module(x, table), model(x, table), strict=True):
        assert torch.equal(found, expected)
    report = json.loads((tmp_path / "out" / "report.dedup-prefix-cache.json").read_text(encoding="utf-8"))
    assert report["summary"]["gathers_after"] == 1 and len(report["rewired"]) == 3
    hlo = [(tmp_path / "out" / f"{name}.stablehlo.mlir").read_text(encoding="utf-8") for name in ("before", "after")]
    assert [text.count('"stablehlo.gather"') for text in hlo] == [2, 1]


def test_torch_compile_runs_it_in_front_of_any_backend() -> None:
    model, (x, _, table) = Twice(), example_inputs()
    seen: list[GraphModule] = []

    def record(module: GraphModule, inputs: list[Tensor]) -> Any:
        seen.append(module)
        return module.forward

    compiled = torch.compile(model, backend=with_passes(record, ["dedup-prefix-cache"]), fullgraph=True)
    for found, expected in zip(compiled(x, table), model(x, table), strict=True):
        assert torch.equal(found, expected)
    assert [str(found.target) for found in seen[0].graph.nodes].count("index_select") == 1


# The verifier.


def node(module: GraphModule, name: str) -> Node:
    return next(found for found in module.graph.nodes if found.name == name)


def merge_by_hand(module: GraphModule, *pairs: tuple[str, str]) -> tuple[GraphModule, Any]:
    """`module` with each first node replaced by the second one, and a report that says so."""
    changed = module_like(module, copy_graph(module.graph)[0])
    for name, into in pairs:
        node(changed, name).replace_all_uses_with(node(changed, into))
        changed.graph.erase_node(node(changed, name))
    report = DedupPrefixCache()(module).report
    report = replace(report, rewired=tuple(Rewired(*pair) for pair in pairs), removed=tuple(name for name, _ in pairs))
    return changed, report


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stay_index_copy_between", "read may be written in between"),
        ("stay_setitem_between", "read may be written in between"),
        ("stay_alias_written_between", "read may be written in between"),
        ("stay_table_written_between", "read may be written in between"),
        ("stay_other_input_written_between", "read may be written in between"),
        ("stay_opaque_between", "read may be written in between"),
        ("stay_opaque_reads_copy", "may be written"),
        ("stay_first_written_later", "may be written"),
        ("stay_second_written_through_view", "may be written"),
        ("stay_both_returned", "tensors of their own"),
        ("stay_views_of_both_returned", "tensors of their own"),
        ("stay_different_index", "not the same pure call"),
        ("stay_different_pool_shape", "not the same pure call"),
    ],
)
def test_the_verifier_rejects_every_merge_that_must_not_be(name: str, message: str) -> None:
    module = traced(FORMS[name].body, "make_fx")
    gathers = [n.name for n in module.graph.nodes if n.target in (aten.index_select.default, aten.index.Tensor)]
    changed, report = merge_by_hand(module, (gathers[1], gathers[0]))
    with pytest.raises(PruneVerificationError, match=message):
        verify_dedup(module, changed, report)


def subject() -> GraphModule:
    return traced(FORMS["go_table_reshaped_again"].body, "make_fx")


def swap_operands(module: GraphModule) -> None:
    found = node(module, "mul")
    found.args = tuple(reversed(found.args))


def change_a_constant(module: GraphModule) -> None:
    node(module, "permute").args = (node(module, "view_1"), [0, 1, 2, 3])


def change_an_operator(module: GraphModule) -> None:
    node(module, "mul").target = aten.add.Tensor


def insert_a_write(module: GraphModule) -> None:
    with module.graph.inserting_before(node(module, "output")):
        module.graph.call_function(aten.zero_.default, (node(module, "past_key_values_0"),))


def drop_a_live_node(module: GraphModule) -> None:
    node(module, "add").replace_all_uses_with(node(module, "x"))
    module.graph.erase_node(node(module, "add"))


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (swap_operands, "arguments changed"),
        (change_a_constant, "arguments changed"),
        (change_an_operator, "it became aten.add"),
        (insert_a_write, "zero_.*was inserted"),
        (drop_a_live_node, "the report says"),
    ],
)
def test_the_verifier_rejects_a_tampered_result(tamper: Callable[[GraphModule], None], message: str) -> None:
    module = subject()
    result = DedupPrefixCache()(module)
    verify_dedup(module, result.graph_module, result.report)
    tamper(result.graph_module)
    with pytest.raises(PruneVerificationError, match=message):
        verify_dedup(module, result.graph_module, result.report)


def test_the_verifier_rejects_a_report_that_tells_another_story() -> None:
    module = subject()
    result = DedupPrefixCache()(module)
    stories = (
        (replace(result.report, rewired=()), "arguments changed"),
        (replace(result.report, removed=result.report.removed[1:]), "the report says"),
        (replace(result.report, rewired=(Rewired("nowhere", "view"),)), "not in both graphs"),
        (replace(result.report, rewired=(*result.report.rewired, Rewired("add", "x"))), "arguments changed"),
    )
    for report, message in stories:
        with pytest.raises(PruneVerificationError, match=message):
            verify_dedup(module, result.graph_module, report)


def test_the_verifier_rejects_a_merge_into_a_later_node() -> None:
    module = traced(FORMS["go_indices_first"].body, "make_fx")
    first, second = (n.name for n in module.graph.nodes if n.target is aten.index_select.default)
    changed, report = merge_by_hand(module, (first, second))
    with pytest.raises(PruneVerificationError, match=r"not computed before it|runs later"):
        verify_dedup(module, changed, report)


@dataclass(frozen=True)
class OverMerge(DedupPrefixCache):
    """The pass, with a bug: it also drops a live addition."""

    def call(self, graph_module: GraphModule) -> Any:
        result = super().call(graph_module)
        drop_a_live_node(result.graph_module)
        result.graph_module.recompile()
        return result


@pytest.mark.parametrize("inplace", [False, True])
def test_the_pipeline_refuses_what_is_not_proven(inplace: bool) -> None:
    module = subject()
    names = [found.name for found in module.graph.nodes]
    with pytest.raises(PruneVerificationError):
        PassPipeline([OverMerge(inplace=inplace)])(module)
    assert [found.name for found in module.graph.nodes] == names
    result = PassPipeline([OverMerge(inplace=inplace)], keep_unverified=True)(module)
    assert result.graph_module is module and not result.modified and result.runs[0].error is not None


# Random graphs.


CALM_STEPS = [fuzz.view, fuzz.view, fuzz.pure, fuzz.combine, fuzz.write, fuzz.copy, fuzz.kernel]


@st.composite
def repeating_graphs(draw: Any) -> GraphModule:
    """Random steps, mostly without effect, around live gathers of one pool by one of a few index expressions."""
    graph = fuzz.RandomGraph(draw)
    gathers, sums = [], []
    for _ in range(draw(st.integers(2, 4))):
        index = graph.either("view", aten.view.default, graph.table, [-1])
        if draw(st.booleans()):
            index = graph.call(aten.bitwise_and.Scalar, index, draw(st.sampled_from([1, 3])))
        graph.values.append(graph.either("index_select", aten.index_select.default, graph.pool, 0, index))
        gathers.append(graph.values[-1])
        sums.append(graph.call(aten.sum.default, graph.values[-1]))
        for _ in range(draw(st.integers(0, 2))):
            made = draw(st.sampled_from(CALM_STEPS))(graph)
            graph.values += [] if made is None else [made]
    outputs = draw(st.lists(st.sampled_from([*graph.values, *gathers]), min_size=1, max_size=3))
    graph.graph.output((*outputs, *sums))
    return GraphModule(torch.nn.Module(), graph.graph)


def random_inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    pool, table = torch.randn(fuzz.POOL, generator=generator), torch.tensor([[0, 3], [3, 5]], dtype=torch.int32)
    return pool, table, torch.randn(fuzz.X, generator=generator)


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.one_of(repeating_graphs(), fuzz.graphs()))
def test_merging_is_never_seen(module: GraphModule) -> None:
    note(module.code)
    check_dedup(module, random_inputs())


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(repeating_graphs())
def test_an_input_may_be_a_view_of_the_pool(module: GraphModule) -> None:
    """The same storage behind two inputs: what one input is written through shows in the other."""
    note(module.code)
    result = DedupPrefixCache()(module)
    outputs = []
    for graph in (module, result.graph_module):
        buffer = torch.arange(120.0)
        pool, x = buffer[:72].view(fuzz.POOL), buffer[72 - fuzz.X[0] * 12 : 72].view(fuzz.X)
        outputs.append([*torch.utils._pytree.tree_leaves(graph(pool, random_inputs()[1], x)), buffer])
    for old, new in zip(*outputs, strict=True):
        assert old == new if not isinstance(old, Tensor) else torch.equal(old.nan_to_num(7), new.nan_to_num(7))


def test_the_generator_makes_graphs_that_are_merged_and_graphs_that_are_not() -> None:
    found: set[str] = set()

    @settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(repeating_graphs())
    def collect(module: GraphModule) -> None:
        for entry in DedupPrefixCache()(module).report.duplicates:
            found.add(entry.status if entry.status == "merged" else entry.reason.split(" ", 2)[1])

    collect()
    assert {"merged", "may", "and"} <= found
