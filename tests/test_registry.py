"""Passes by name, options as text, contracts by operator."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import pytest
import torch
from torch.fx import GraphModule
from torch.fx.passes.infra.pass_base import PassBase, PassResult

from passes import (
    DeadkvError,
    PassPipeline,
    PrunePrefixCache,
    PruneVerificationError,
    available_passes,
    register_contract,
    register_pass,
)
from passes.prune import PruneResult
from passes.specs import make_pass
from tests.cases import ops
from tests.support.builder import GraphBuilder, decode_graph

aten = torch.ops.aten


def test_the_pass_is_available_and_takes_its_options_as_text() -> None:
    assert available_passes()["prune-prefix-cache"] is PrunePrefixCache
    assert make_pass("prune-prefix-cache{policy=liveness, inplace=true}") == PrunePrefixCache("liveness", inplace=True)
    assert make_pass("prune-prefix-cache") == PrunePrefixCache()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("prune", "unknown pass 'prune': available are .*prune-prefix-cache"),
        ("prune-prefix-cache{", "write it as name or name"),
        ("prune-prefix-cache{speed=9}", "unknown option 'speed=9'; options are policy, inplace"),
        ("prune-prefix-cache{inplace=maybe}", "option inplace=maybe must be bool"),
        ("prune-prefix-cache{policy=brave}", "unknown policy 'brave'"),
    ],
)
def test_a_wrong_spec_is_one_clear_line(spec: str, message: str) -> None:
    with pytest.raises(DeadkvError, match=message):
        PassPipeline([spec])


def test_a_pass_that_is_no_dataclass_cannot_be_registered() -> None:
    with pytest.raises(DeadkvError, match="must be a dataclass"):

        @register_pass("broken")
        class Broken(PassBase):
            def call(self, graph_module: GraphModule) -> PassResult:
                return PassResult(graph_module, False)


@dataclass(frozen=True)
class OverPrune(PrunePrefixCache):
    """The pass, and one live node more: what a bug would look like."""

    def call(self, graph_module: GraphModule) -> PruneResult:
        result = super().call(graph_module)
        (live,) = result.graph_module.graph.find_nodes(op="call_function", target=aten.add.Tensor)
        live.replace_all_uses_with(live.args[0])
        result.graph_module.graph.erase_node(live)
        result.graph_module.recompile()
        return result


@pytest.mark.parametrize("inplace", [False, True])
def test_the_pipeline_verifies_and_refuses(inplace: bool) -> None:
    module = decode_graph()
    names = [node.name for node in module.graph.nodes]
    broken = OverPrune(policy="liveness", inplace=inplace)
    with pytest.raises(PruneVerificationError):
        PassPipeline([broken])(module)
    assert [node.name for node in module.graph.nodes] == names
    result = PassPipeline([broken], keep_unverified=True)(module)
    assert result.graph_module is module and not result.modified
    assert result.runs[0].error is not None
    assert [node.name for node in module.graph.nodes] == names


def test_the_pipeline_runs_passes_in_order_and_logs_a_line_each(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "deadkv"):
        result = PassPipeline(["prune-prefix-cache", "prune-prefix-cache{policy=liveness}"])(decode_graph())
    assert [run.modified for run in result.runs] == [False, True]
    assert [report.summary["gathers_after"] for report in result.reports] == [1, 0]
    assert [record.message.split(":")[0] for record in caplog.records] == ["prune-prefix-cache"] * 2


def kernel_graph() -> GraphModule:
    build = GraphBuilder()
    x = build.input("x", 3, 2, 16, 8)
    table = build.input("active_block_table", 3, 4, dtype=torch.int32)
    pool = build.parameter("past_key_values.0", 10, 4, 2, 8)
    return build.module(build.call(ops.attend_unknown, x, pool, table, build.site(pool, table)))


def test_a_contract_holds_while_it_is_registered() -> None:
    module = kernel_graph()
    liveness = PrunePrefixCache(policy="liveness")
    with register_contract("caselib::attend_unknown", reads={"x", "pool", "table"}):
        assert liveness(module).modified
    assert not liveness(module).modified


def test_a_later_contract_replaces_an_earlier_one_and_gives_it_back() -> None:
    liveness = PrunePrefixCache(policy="liveness")
    with register_contract("caselib::attend_unknown", reads={"x"}):
        with register_contract("caselib::attend_unknown", reads={"x", "prior"}):
            assert not liveness(kernel_graph()).modified
        assert liveness(kernel_graph()).modified


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reads": {"x", "priors"}}, "`reads` names unknown operand 'priors'; it has x, pool, table, prior"),
        ({"reads": {"x"}, "writes": {"out"}}, "`writes` names unknown operand 'out'"),
        ({"reads": {"x"}, "writes": {"x"}, "stand_in": {"prior": "x"}}, "stand-in 'x' of prior"),
        ({"reads": {"x"}, "stand_in": {"prior": "nowhere"}}, "`stand_in` names unknown operand 'nowhere'"),
    ],
)
def test_a_contract_that_contradicts_its_operator_is_refused(options: dict[str, object], message: str) -> None:
    module = kernel_graph()
    code = module.code
    with register_contract("caselib::attend_unknown", **options), pytest.raises(DeadkvError, match=message):  # type: ignore[arg-type]
        PrunePrefixCache(policy="liveness")(module)
    assert module.code == code


def test_a_contract_needs_a_qualified_name() -> None:
    with pytest.raises(DeadkvError, match="give the operator as 'namespace::name'"):
        register_contract("attention", reads={"x"})
