"""What torch records of a call's inputs, for Inductor's layout of them, fits the call after surgery too."""

from __future__ import annotations

import pytest
import torch
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from passes import PrunePrefixCache
from tests.cases import ops
from tests.support.builder import GraphBuilder

LIVENESS = PrunePrefixCache(policy="liveness")
KEY = "eager_input_vals"


def site_for(target: torch.ops.OpOverload, named: bool) -> tuple[GraphModule, Node]:
    """A call of `target`, given a prior by position or by name, whose record holds the operands transposed."""
    build = GraphBuilder()
    x, table = build.input("x", 3, 2, 16, 8), build.input("active_block_table", 3, 4, dtype=torch.int32)
    pool = build.parameter("past_key_values.0", 10, 4, 2, 8)
    prior = build.site(pool, table)
    pools = () if target is not ops.attend else (pool, table)
    call = build.call(target, x, *pools, prior=prior) if named else build.call(target, x, *pools, prior)
    module = build.module(call)
    (made,) = module.graph.find_nodes(op="call_function", target=target)
    made.meta[KEY] = torch.fx.node.map_aggregate(
        (made.args, made.kwargs), lambda v: v.meta["val"].transpose(0, 1) if isinstance(v, Node) else None
    )
    return module, made


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("target", [ops.attend, ops.attend_required, ops.attend_aliased], ids=str)
def test_the_record_has_the_arguments_of_the_call(target: torch.ops.OpOverload, named: bool) -> None:
    module, call = site_for(target, named)
    before = call.meta[KEY]
    result = LIVENESS(module)
    assert result.modified and call.meta[KEY] is before
    (after,) = result.graph_module.graph.find_nodes(op="call_function", target=target)
    args, kwargs = after.meta[KEY]
    assert len(args) == len(after.args) and set(kwargs) == set(after.kwargs)
    given, values = pytree.tree_leaves((after.args, after.kwargs)), pytree.tree_leaves((args, kwargs))
    assert [value is not None for value in values] == [isinstance(found, Node) for found in given]
    assert all(
        value.numel() == found.meta["val"].numel()
        for found, value in zip(given, values, strict=True)
        if value is not None
    )
    assert args[0].shape == (2, 3, 16, 8), "an operand that stays keeps what eager torch had"


def test_a_record_that_does_not_fit_is_left_alone() -> None:
    module, call = site_for(ops.attend, named=False)
    call.meta[KEY] = stale = ((), {})
    (after,) = LIVENESS(module).graph_module.graph.find_nodes(op="call_function", target=ops.attend)
    assert after.meta[KEY] is stale


def test_make_fx_records_it_under_this_name() -> None:
    x, pool = torch.rand(3, 2, 16, 8), torch.rand(10, 4, 2, 8)
    with torch.library._scoped_library("eagerlib", "DEF") as library:
        library.define("f(Tensor x, Tensor prior) -> Tensor", tags=[torch.Tag.needs_exact_strides])
        library.impl("f", lambda x, prior: x + 1, "CompositeExplicitAutograd")
        library._register_fake("f", lambda x, prior: torch.empty_like(x))
        traced = make_fx(lambda x, p: torch.ops.eagerlib.f(x, p), tracing_mode="fake")(x, pool)
        (call,) = traced.graph.find_nodes(op="call_function", target=torch.ops.eagerlib.f.default)
        assert len(call.meta[KEY][0]) == 2
