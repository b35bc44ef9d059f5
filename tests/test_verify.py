"""The verifier: accepts what the pass does, rejects every unsound change, and names the path."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from passes import PrunePrefixCache, PruneReport, PruneVerificationError, verify_prune
from tests.cases import ops
from tests.support.builder import GraphBuilder
from tracing import capture

aten = torch.ops.aten
Tamper = Callable[[GraphModule], None]


def subject() -> GraphModule:
    """A graph with a live cache write, a factory and a kernel on dead sites, and two outputs."""
    build = GraphBuilder()
    x = build.input("x", 3, 2, 16, 8)
    table = build.input("active_block_table", 3, 4, dtype=torch.int32)
    pool = build.parameter("past_key_values.0", 10, 4, 2, 8)
    prior = build.site(pool, table)
    rows = build.call(aten.slice.Tensor, pool, 0, 0, 3)
    build.call(aten.zero_.default, rows)
    zeros = build.call(aten.zeros_like.default, prior)
    attended = build.call(ops.attend, x, build.parameter("past_key_values.0", 10, 4, 2, 8), table, prior)
    added = build.call(aten.add.Tensor, attended, zeros)
    scaled = build.call(aten.mul.Tensor, x, 2)
    return build.module(added, scaled)


def pruned() -> tuple[GraphModule, GraphModule, PruneReport]:
    module = subject()
    result = PrunePrefixCache(policy="liveness")(module)
    assert result.report.summary["gathers_after"] == 0
    return module, result.graph_module, result.report


def node(module: GraphModule, name: str) -> Node:
    return next(found for found in module.graph.nodes if found.name == name)


def drop_the_write(module: GraphModule) -> None:
    module.graph.erase_node(node(module, "zero_"))


def drop_the_write_and_what_it_wrote_through(module: GraphModule) -> None:
    for name in ("zero_", "slice_1", "past_key_values_0"):
        module.graph.erase_node(node(module, name))


def remove_a_live_node(module: GraphModule) -> None:
    node(module, "mul").replace_all_uses_with(node(module, "x"))
    module.graph.erase_node(node(module, "mul"))


def swap_operands(module: GraphModule) -> None:
    node(module, "add").args = tuple(reversed(node(module, "add").args))


def change_a_constant(module: GraphModule) -> None:
    node(module, "mul").args = (node(module, "x"), 3)


def change_the_type_of_a_constant(module: GraphModule) -> None:
    node(module, "mul").args = (node(module, "x"), 2.0)


def change_an_operand(module: GraphModule) -> None:
    node(module, "mul").args = (node(module, "add"), 2)


def change_an_operator(module: GraphModule) -> None:
    node(module, "mul").target = aten.div.Tensor


def reorder_outputs(module: GraphModule) -> None:
    output = node(module, "output")
    output.args = (tuple(reversed(output.args[0])),)  # type: ignore[arg-type]


def drop_an_output(module: GraphModule) -> None:
    output = node(module, "output")
    output.args = (output.args[0][:1],)  # type: ignore[index]


def rename_an_input(module: GraphModule) -> None:
    node(module, "x").target = "y"


def replace_a_parameter(module: GraphModule) -> None:
    pool = module.get_parameter("past_key_values.0")
    other = nn.Module()
    other.register_parameter("0", nn.Parameter(pool.clone(), requires_grad=False))
    module.register_module("past_key_values", other)


def fill_with_ones(module: GraphModule) -> None:
    node(module, "zeros_like").target = aten.ones.default


def make_another_shape(module: GraphModule) -> None:
    made = node(module, "zeros_like")
    source = made.args[0]
    assert isinstance(source, Node)
    source.args = ([3, 16, 2, 4],)


def blind_the_kernel(module: GraphModule) -> None:
    call = node(module, "attend")
    call.args = (call.args[0], call.args[1], None, None)


def move_the_write(module: GraphModule) -> None:
    node(module, "add").append(node(module, "zero_"))


def insert_a_write(module: GraphModule) -> None:
    with module.graph.inserting_before(node(module, "output")):
        module.graph.call_function(aten.zero_.default, (node(module, "past_key_values_0"),))


TAMPERS: tuple[tuple[Tamper, str], ...] = (
    (drop_the_write, r"%zero_: it writes the storage of %slice_1, which outlives it"),
    (drop_the_write_and_what_it_wrote_through, r"%zero_: it writes the storage of %past_key_values_0, which"),
    (remove_a_live_node, r"argument 0\[1\] became x.*path %mul -> %output"),
    (swap_operands, "argument 0 became"),
    (change_a_constant, "argument 1 became 3"),
    (change_the_type_of_a_constant, "argument 1 became 2.0"),
    (change_an_operand, "argument 0 became add"),
    (change_an_operator, "another computation"),
    (reorder_outputs, "became"),
    (drop_an_output, "number of outputs changed"),
    (rename_an_input, "inputs changed"),
    (replace_a_parameter, "parameters changed"),
    (fill_with_ones, "another computation"),
    (make_another_shape, "its shape becomes"),
    (blind_the_kernel, "argument 2 became None"),
    (move_the_write, "now runs before"),
    (insert_a_write, "was inserted"),
)


@pytest.mark.parametrize(("tamper", "message"), TAMPERS, ids=[tamper.__name__ for tamper, _ in TAMPERS])
def test_a_tampered_result_is_rejected_with_or_without_a_report(tamper: Tamper, message: str) -> None:
    before, after, report = pruned()
    verify_prune(before, after, report)
    tamper(after)
    with pytest.raises(PruneVerificationError, match=message):
        verify_prune(before, after)
    with pytest.raises(PruneVerificationError):
        verify_prune(before, after, report)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: replace(r, removed=r.removed[1:]), "the report does not say so"),
        (lambda r: replace(r, removed=(*r.removed, "add")), "says that %add was removed"),
    ],
)
def test_a_dishonest_report_is_rejected(change: Callable[[PruneReport], PruneReport], message: str) -> None:
    before, after, report = pruned()
    with pytest.raises(PruneVerificationError, match=message):
        verify_prune(before, after, change(report))


def test_a_write_that_a_view_shows_later_may_not_go() -> None:
    def body(x: torch.Tensor, past_key_values_0: torch.Tensor, block_table: torch.Tensor) -> torch.Tensor:
        prior = past_key_values_0.index_select(0, block_table.reshape(-1))
        kept = prior[0]
        prior.zero_()
        return x + kept.sum()

    inputs = torch.ones(2), torch.ones(9, 4, 2, 8), torch.zeros(3, 4, dtype=torch.int32)
    for frontend in ("make_fx", "dynamo"):
        before, after = (capture(body, inputs, frontend=frontend) for _ in range(2))
        (write,) = [found for found in after.graph.nodes if found.name.startswith("zero_")]
        after.graph.erase_node(write)
        with pytest.raises(PruneVerificationError, match="writes the storage of"):
            verify_prune(before, after)


@pytest.mark.parametrize("written", ["embedding", "relu"])
def test_a_removed_function_that_writes_its_operand_by_an_option_is_rejected(written: str) -> None:
    def model(x: Tensor, past_key_values_0: Tensor, active_block_table: Tensor) -> Tensor:
        functional = torch.nn.functional
        if written == "embedding":
            functional.embedding(active_block_table, past_key_values_0.reshape(10, -1), None, 1.0)
        else:
            functional.relu(past_key_values_0, True)
        return x + 1

    before = torch.fx.symbolic_trace(model)
    after = torch.fx.symbolic_trace(model)
    call = next(node for node in after.graph.nodes if written in str(node.target) or written in node.name)
    after.graph.erase_node(call)
    with pytest.raises(PruneVerificationError, match=r"it (scales its weight in place|writes the storage)"):
        verify_prune(before, after)


_SPELLED_IN_PYTHON = (
    lambda prior: torch.nn.functional.dropout(prior, 0.5, False),
    lambda prior: operator.iadd(prior, 1),
    lambda prior: operator.imul(prior, 2),
    lambda prior: operator.pos(prior),
    lambda prior: operator.lshift(prior.int(), 1),
    lambda prior: operator.rshift(prior.int(), 1),
)


@pytest.mark.parametrize("use", _SPELLED_IN_PYTHON)
def test_python_functions_that_the_pass_removes_are_accepted(use: Callable[[Tensor], Tensor]) -> None:
    def model(x: Tensor, past_key_values_0: Tensor, active_block_table: Tensor) -> Tensor:
        use(past_key_values_0.index_select(0, active_block_table.reshape(-1)))
        return x + 1

    before = torch.fx.symbolic_trace(model)
    result = PrunePrefixCache(policy="liveness")(before)
    assert result.report.summary["gathers_after"] == 0
    verify_prune(before, result.graph_module, result.report)


def test_a_removed_dropout_in_training_is_rejected() -> None:
    before, after = (torch.fx.symbolic_trace(lambda x: (torch.nn.functional.dropout(x), x)[1]) for _ in range(2))
    after.graph.erase_node(node(after, "dropout"))
    with pytest.raises(PruneVerificationError, match="random"):
        verify_prune(before, after)


def test_a_changed_number_of_a_call_with_a_contract_is_rejected() -> None:
    """A contract says which tensors are read, and nothing of numbers and switches."""

    def graph(update: bool) -> GraphModule:
        build = GraphBuilder()
        x, table = build.input("x", 3, 8), build.input("active_block_table", 3, 4, dtype=torch.int32)
        pools = [build.input(f"past_key_values_{n}", 10, 4, 2, 8) for n in range(2)]
        return build.module(build.call(ops.attend_switched, x, *pools, table, update))

    with pytest.raises(PruneVerificationError, match="argument 4 became False"):
        verify_prune(graph(True), graph(False))


def test_a_number_that_is_no_tensor_is_not_called_unread() -> None:
    build = GraphBuilder()
    x, table = build.input("x", 3, 8), build.input("active_block_table", 3, 4, dtype=torch.int32)
    prior = build.site(build.input("past_key_values_0", 10, 4, 2, 8), table)
    size = build.call(aten.sym_size.int, prior, 2)
    module = build.module(build.call(ops.scaled, x, size))
    result = PrunePrefixCache(policy="liveness")(module)
    verify_prune(module, result.graph_module, result.report)
    assert node(result.graph_module, "scaled").args[1] == 16


def test_a_factory_that_cannot_be_run_is_rejected() -> None:
    before, after, _ = pruned()
    made = node(after, "zeros_like")
    source = made.args[0]
    assert isinstance(source, Node)
    source.args = ([3.0, 16, 2, 8],)
    with pytest.raises(PruneVerificationError, match="cannot be run"):
        verify_prune(before, after)


def test_a_write_into_what_torch_where_made_may_go_with_it() -> None:
    build = GraphBuilder()
    x, table = build.input("x", 3, 2, 16, 8), build.input("active_block_table", 3, 4, dtype=torch.int32)
    prior = build.site(build.input("past_key_values_0", 10, 4, 2, 8), table)
    for function in (torch.where, torch.nn.functional.relu):
        given = (build.input("mask", 3, 2, 16, 8, dtype=torch.bool), prior, x) if function is torch.where else (x,)
        made = build.graph.call_function(function, given)
        made.meta["val"] = x.meta["val"]
        build.call(aten.add_.Tensor, made, prior)
    module = build.module(x)
    result = PrunePrefixCache(policy="liveness")(module)
    assert result.report.summary["gathers_after"] == 0
    verify_prune(module, result.graph_module, result.report)


def test_a_call_whose_own_operand_was_not_traced_stays() -> None:
    """What `expand_as` becomes is run on traced values, so both of its operands must have been traced."""
    build = GraphBuilder()
    x, table = build.input("x", 1), build.input("active_block_table", 3, 4, dtype=torch.int32)
    prior = build.site(build.input("past_key_values_0", 10, 4, 2, 8), table)
    module = build.module(build.call(aten.expand_as.default, x, prior))
    del x.meta["val"]
    result = PrunePrefixCache(policy="liveness")(module)
    verify_prune(module, result.graph_module, result.report)
    assert result.report.summary["gathers_after"] == 1
