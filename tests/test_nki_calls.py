"""Calls of NKI kernels through the higher-order operator: operands by name, writes by alias, cuts in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from passes import DeadkvError, PassPipeline, PrunePrefixCache, PruneVerificationError, register_contract, verify_prune
from passes.contracts import EmptyTensor
from passes.ops.schema import resolve
from tests.support.builder import GraphBuilder, aten
from tests.support.nki import kernel_node, kernel_registry, nki, nki_kernel_wrapper, result
from tests.support.prunes import after_plain_dce, assert_same_behaviour, check_prune, gathers_left
from tracing import capture

POOL, TABLE = (10, 4, 2, 8), (3, 4)


def store(x: Tensor, table: Tensor, pool: Tensor) -> tuple[Tensor, Tensor]:
    """Writes the first row of the pool in place, as a kernel with an in-kernel cache update does."""
    pool[0].add_(x.sum())
    return x + 1, pool


def attend(x: Tensor, table: Tensor | None, pool: Tensor, scale: float = 1.0, prior: Tensor | None = None) -> Tensor:
    """Reads `prior` only where there is no table."""
    if table is None:
        assert prior is not None
        return x * scale + prior
    return x * scale + pool.sum() + table.sum()


def attend_and_store(x: Tensor, prior: Tensor | None, pool: Tensor) -> tuple[Tensor, Tensor]:
    pool[1].add_(x.sum())
    return x + 1, pool


def attention_block_tkg(
    V_cache: Tensor,  # noqa: N803
    K_cache: Tensor,  # noqa: N803
    update_cache: bool,
    active_blocks_table: Tensor,
    X: Tensor,  # noqa: N803
    kv_cache_update_idx: Tensor | None = None,
) -> Tensor:
    """A release that takes the operands in another order and knows `kv_cache_update_idx` as optional."""
    assert not update_cache
    table = active_blocks_table.long()
    return X + K_cache[table].sum() + V_cache[table].sum()


store_nki, attend_nki, attend_and_store_nki = nki(store), nki(attend), nki(attend_and_store)
attention_block_tkg_nki = nki(attention_block_tkg)


def materialize(pool: Tensor, table: Tensor) -> Tensor:
    return pool.index_select(0, table.reshape(-1)).reshape(3, -1, 2, 8).permute(0, 2, 1, 3)


class Layer(nn.Module):
    def __init__(self, body: Callable[[Tensor, Tensor, Tensor], Any], name: str = "past_key_values_0") -> None:
        super().__init__()
        self.body, self.pool_name = body, name
        self.register_parameter(name, nn.Parameter(torch.randn(POOL), requires_grad=False))

    def forward(self, x: Tensor, active_block_table: Tensor) -> Any:
        return self.body(x, getattr(self, self.pool_name), active_block_table)


INPUTS = (torch.randn(3, 2, 16, 8), torch.arange(12, dtype=torch.int32).reshape(TABLE) % 9)
LEVELS = ("make_fx", "dynamo")


def captured(body: Callable[..., Any], level: str, **options: Any) -> GraphModule:
    return capture(Layer(body, **options), INPUTS, frontend=level)


def kernels(module: GraphModule) -> list[Node]:
    return [node for node in module.graph.nodes if node.target is nki_kernel_wrapper]


@pytest.mark.parametrize("level", LEVELS)
def test_operands_are_bound_by_name(level: str) -> None:
    module = captured(lambda x, pool, table: attend_nki(x, table, pool, scale=2.0), level)
    call = resolve(kernels(module)[0])
    assert call is not None and call.op == "nki::attend" and call.kernel is not None
    assert {"x", "table", "pool"} <= {name for name, value in call.bound.items() if isinstance(value, Node)}
    assert call.bound["scale"] == 2.0 and call.bound["prior"] is None
    assert call.kernel.compiled == (level == "make_fx")


def test_a_compiled_kernel_writes_what_shares_storage_with_a_result() -> None:
    module = captured(lambda x, pool, table: store_nki(x, table, pool)[0], "make_fx")
    call = resolve(kernels(module)[0])
    assert call is not None and call.kernel is not None
    assert kernels(module)[0].kwargs["operand_output_aliases"] == {2: 1}
    assert call.kernel.written == {"pool"}


def test_a_kernel_that_is_not_compiled_may_write_every_operand() -> None:
    module = captured(lambda x, pool, table: store_nki(x, table, pool)[0], "dynamo")
    call = resolve(kernels(module)[0])
    assert call is not None and call.kernel is not None and call.kernel.written == {"x", "table", "pool"}


@pytest.mark.parametrize("contract", [False, True])
@pytest.mark.parametrize("level", LEVELS)
def test_a_cache_write_with_unused_results_stays_and_plain_dce_deletes_it(level: str, contract: bool) -> None:
    def body(x: Tensor, pool: Tensor, table: Tensor) -> Tensor:
        materialize(pool, table)
        store_nki(x, table, pool)
        return x + 1

    module = captured(body, level)
    assert len(kernels(module)) == 1 and not any(user.users for user in kernels(module)[0].users)
    if contract:
        with register_contract("nki::store", reads={"x"}, writes=() if level == "make_fx" else {"pool"}):
            pruned = check_prune(module, None, policy="liveness").graph_module
    else:
        pruned = check_prune(module, None, policy="liveness").graph_module
    assert len(kernels(pruned)) == 1 and gathers_left(pruned) == 0
    assert_same_behaviour(module, pruned, INPUTS)
    plain = after_plain_dce(module)
    plain.recompile()
    assert not kernels(plain)
    with pytest.raises(AssertionError):
        assert_same_behaviour(module, plain, INPUTS)


def with_prior(x: Tensor, pool: Tensor, table: Tensor) -> Tensor:
    return attend_nki(x, table, pool, prior=materialize(pool, table))


def reads(bound: Any) -> set[str]:
    return {"x", "prior"} if bound["table"] is None else {"x", "table", "pool"}


def test_an_unread_operand_becomes_none_in_place() -> None:
    module = captured(with_prior, "dynamo")
    with register_contract("nki::attend", reads=reads, writes=()):
        result = check_prune(module, INPUTS, policy="liveness")
    before, after = kernels(module)[0], kernels(result.graph_module)[0]
    assert result.report.summary["gathers_after"] == 0
    assert [str(a) for a in after.kwargs["args"]] == [*(str(a) for a in before.kwargs["args"][:4]), "None"]
    assert {k: v for k, v in after.kwargs.items() if k != "args"} == {
        k: v for k, v in before.kwargs.items() if k != "args"
    }


def test_positions_behind_the_cut_operand_do_not_shift() -> None:
    def body(x: Tensor, pool: Tensor, table: Tensor) -> Tensor:
        return attend_and_store_nki(x, materialize(pool, table), pool)[0]

    module = captured(body, "dynamo")
    with register_contract("nki::attend_and_store", reads={"x"}, writes={"pool"}, stand_in={"prior": None}):
        pruned = check_prune(module, INPUTS, policy="liveness").graph_module
    args = kernels(pruned)[0].kwargs["args"]
    assert args[1] is None and args[2] is not None and len(args) == 3
    assert gathers_left(pruned) == 0


@pytest.mark.parametrize(
    ("level", "stand_in", "goes"),
    [
        ("make_fx", {"prior": None}, False),
        ("make_fx", {"prior": EmptyTensor((0,))}, False),
        ("make_fx", {"prior": EmptyTensor((3, 2, 16, 8))}, True),
        ("make_fx", {"prior": "x"}, True),
        ("dynamo", {"prior": EmptyTensor((0,))}, True),
    ],
)
def test_a_compiled_kernel_keeps_its_operands_shapes(level: str, stand_in: dict[str, Any], goes: bool) -> None:
    module = captured(with_prior, level)
    with register_contract("nki::attend", reads=reads, writes=(), stand_in=stand_in):
        report = check_prune(module, INPUTS, policy="liveness").report
    assert report.summary["gathers_after"] == (0 if goes else 1)
    if not goes:
        assert "was compiled for a tensor of its shape" in report.sites[0].reason


@pytest.mark.parametrize("level", LEVELS)
def test_without_a_contract_everything_is_kept(level: str) -> None:
    assert not check_prune(captured(with_prior, level), INPUTS, policy="liveness").modified


def test_a_contract_that_is_silent_about_writes_cuts_nothing_of_a_kernel_that_is_not_compiled() -> None:
    with register_contract("nki::attend", reads=reads):
        assert not check_prune(captured(with_prior, "dynamo"), INPUTS, policy="liveness").modified


def test_an_operand_that_the_call_aliases_is_written_whatever_the_contract_says() -> None:
    build = GraphBuilder()
    x, table, pool = _operands(build)
    prior = build.site(pool, table)
    node = kernel_node(build, "attend", {"x": x, "prior": prior}, results=[x, prior], aliases={1: 1}, config="c")
    module = build.module(result(build, node, 0))
    with register_contract("nki::attend", reads={"x"}, writes=(), stand_in={"prior": None}):
        assert not check_prune(module, None, policy="liveness").modified


@pytest.mark.parametrize(
    ("aliases", "config", "written"),
    [({1: 1}, "", {"pool"}), ({1: 1}, "c", {"pool"}), ({}, "c", set()), ({}, "", {"x", "pool"})],
)
def test_what_a_kernel_writes_shows_in_its_aliases_or_is_everything_until_it_is_compiled(
    aliases: dict[int, int], config: str, written: set[str]
) -> None:
    build = GraphBuilder()
    x, _table, pool = _operands(build)
    operands = {"x": x, "pool": pool}
    call = resolve(kernel_node(build, "attend", operands, results=[x, pool], aliases=aliases, config=config))
    assert call is not None and call.kernel is not None and call.kernel.written == written


def block_tkg(x: Tensor, pool: Tensor, table: Tensor) -> Tensor:
    index = materialize(pool, table).sum().to(torch.int32)
    return attention_block_tkg_nki(pool, pool, False, table, x, kv_cache_update_idx=index)


def test_the_built_in_contract_finds_the_operands_of_another_release_by_name() -> None:
    module = captured(block_tkg, "dynamo", name="opaque")
    result = check_prune(module, INPUTS, policy="liveness")
    assert [site.role for site in result.report.sites] == ["K"]
    assert result.report.sites[0].status == "pruned"
    assert kernels(result.graph_module)[0].kwargs["args"][5] is None


def test_a_graph_from_another_process_knows_the_kernel_by_the_nodes_name() -> None:
    build = GraphBuilder()
    x, table, pool = _operands(build, pool="arg7_1", table="arg3_1")
    build.site(pool, table)
    operands = {"X": x, "active_blocks_table": table, "V_cache": pool, "K_cache": pool}
    node = kernel_node(build, "nki_attention_block_tkg", operands, results=[x, pool], aliases={2: 1, 3: 1}, config="c")
    module = build.module(result(build, node, 0))
    report = check_prune(module, None, policy="liveness").report
    assert [(site.cache, site.status) for site in report.sites] == [("arg7_1", "pruned")]


def _operands(
    build: GraphBuilder, pool: str = "past_key_values_0", table: str = "block_table"
) -> tuple[Node, Node, Node]:
    x = build.input("x", 3, 2, 16, 8)
    return x, build.input(table, *TABLE, dtype=torch.int32), build.parameter(pool, *POOL)


@pytest.mark.parametrize("field", ["reads", "writes"])
def test_an_unknown_operand_is_one_clear_error(field: str) -> None:
    contract: dict[str, Any] = {"reads": {"x"}, "writes": (), field: {"k_prior"}}
    module = captured(with_prior, "dynamo")
    code = module.code
    with (
        register_contract("nki::attend", **contract),
        pytest.raises(
            DeadkvError, match=rf"contract of nki::attend: `{field}` names unknown operand 'k_prior'; it has"
        ),
    ):
        PrunePrefixCache(policy="liveness")(module)
    assert module.code == code


@pytest.mark.parametrize(
    "change",
    [
        {"operand_output_aliases": {7: 0}},
        {"operand_output_aliases": {"pool": 0}},
        {"arg_names": ["x", "table", "pool"]},
        {"arg_names": ["x", "x", "pool", "scale", "prior"]},
        {"kernel_idx": 999, "arg_names": ["a", "b", "c", "d", "e"]},
    ],
)
def test_a_call_that_cannot_be_bound_keeps_everything(change: dict[str, Any]) -> None:
    module = captured(with_prior, "dynamo")
    node = kernels(module)[0]
    node.kwargs = {**node.kwargs, **change}
    assert resolve(node) is None
    with register_contract("nki::attend", reads={"x"}, writes=()):
        assert not PrunePrefixCache(policy="liveness")(module).modified


def test_an_index_of_another_process_does_not_name_a_kernel() -> None:
    build = GraphBuilder()
    x, _table, pool = _operands(build)
    index = kernel_registry.add(attend)
    node = kernel_node(build, "other", {"x": x, "pool": pool}, results=[x], kernel_idx=index)
    assert resolve(node) is None
    node = kernel_node(build, "other", {"q": x}, results=[x], kernel_idx=index)
    call = resolve(node)
    assert call is not None and call.op == "nki::other"


def test_the_verifier_checks_the_operand_by_its_name() -> None:
    module = captured(with_prior, "dynamo")
    with register_contract("nki::attend", reads=reads, writes=()):
        result = PrunePrefixCache(policy="liveness")(module)
        verify_prune(module, result.graph_module, result.report)
    with pytest.raises(PruneVerificationError, match=r"args\[4\] became None"):
        verify_prune(module, result.graph_module, result.report)
    with (
        register_contract("nki::attend", reads=lambda bound: set(bound) - {"scale"}, writes=()),
        pytest.raises(PruneVerificationError, match=r"args\[4\] became None"),
    ):
        verify_prune(module, result.graph_module, result.report)


def test_the_verifier_refuses_none_for_an_operand_of_a_compiled_kernel() -> None:
    build = GraphBuilder()
    x, table, pool = _operands(build)
    prior = build.site(pool, table)
    node = kernel_node(build, "attend", {"x": x, "prior": prior}, results=[x], config="c")
    module = build.module(result(build, node, 0), build.call(aten.neg.default, x))
    with register_contract("nki::attend", reads={"x"}, writes=(), stand_in={"prior": EmptyTensor((3, 2, 16, 8))}):
        pruned = PrunePrefixCache(policy="liveness")(module)
        verify_prune(module, pruned.graph_module, pruned.report)
        cut = kernels(pruned.graph_module)[0]
        empty = cut.kwargs["args"][1]
        cut.update_kwarg("args", (cut.kwargs["args"][0], None))
        cut.graph.erase_node(empty)
        with pytest.raises(PruneVerificationError, match=r"args\[1\] became None"):
            verify_prune(module, pruned.graph_module, pruned.report)


def scribble(x: Tensor, copy: Tensor) -> tuple[Tensor, Tensor]:
    copy.add_(x.sum())
    return x + 1, copy


scribble_nki = nki(scribble)


def unseen(x: Tensor, copy: Tensor) -> Tensor:
    scribble_nki(x, copy)
    return x + 1


def seen_later(x: Tensor, copy: Tensor) -> Tensor:
    scribble_nki(x, copy)
    return x + copy


def result_seen(x: Tensor, copy: Tensor) -> Tensor:
    return x + scribble_nki(x, copy)[1]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("body", "goes"), [(unseen, True), (seen_later, False), (result_seen, False)])
def test_a_kernel_that_writes_the_copy_goes_only_if_nothing_sees_it(
    body: Callable[[Tensor, Tensor], Tensor], goes: bool, level: str
) -> None:
    module = captured(lambda x, pool, table: body(x, materialize(pool, table).contiguous()), level)
    assert not check_prune(module, INPUTS, policy="liveness").modified
    with register_contract("nki::scribble", reads={"x"}, writes={"copy"}):
        result = PassPipeline([PrunePrefixCache(policy="liveness")])(module)
    assert result.modified == goes
    assert len(kernels(result.graph_module)) == (0 if goes else 1)
    assert_same_behaviour(module, result.graph_module, INPUTS)
