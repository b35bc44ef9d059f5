"""Contracts that cannot be used: one clear error, and the graph as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx import GraphModule

from passes import DeadkvError, PrunePrefixCache, register_contract
from passes.contracts import EmptyTensor
from tests.support.builder import GraphBuilder, aten

LIBRARY = torch.library.Library("badlib", "DEF")


def define(schema: str, fake: Callable[..., Any]) -> Any:
    name = schema.split("(")[0]
    LIBRARY.define(schema)
    torch.library.register_fake(f"badlib::{name}", fake, lib=LIBRARY)
    return getattr(torch.ops.badlib, name).default


def needs_rank_four(x: Tensor, prior: Tensor, other: Tensor | None = None) -> Tensor:
    torch._check(prior.dim() == 4, lambda: f"prior must have rank 4, not {prior.dim()}")
    return torch.empty_like(x)


def as_long_as_prior(x: Tensor, prior: Tensor, other: Tensor | None = None) -> Tensor:
    return x.new_empty(prior.shape[0])


STRICT = define("strict(Tensor x, Tensor prior, Tensor? other=None) -> Tensor", needs_rank_four)
LONG = define("long(Tensor x, Tensor prior, Tensor? other=None) -> Tensor", as_long_as_prior)


def graph(target: Any, *, other: bool = False, dtype: torch.dtype = torch.float32) -> GraphModule:
    """`target(x, site)`, or `target(x, site, neg(site))`."""
    build = GraphBuilder()
    x = build.input("x", 3, 2, 16, 8, dtype=dtype)
    table = build.input("block_table", 3, 4, dtype=torch.int32)
    prior = build.site(build.parameter("past_key_values.0", 10, 4, 2, 8), table)
    return build.module(build.call(target, x, prior, *([build.call(aten.neg.default, prior)] if other else [])))


CASES: list[tuple[GraphModule, dict[str, Any], str]] = [
    (
        graph(STRICT),
        {"reads": {"x"}, "stand_in": {"prior": EmptyTensor((0,))}},
        r"%strict \(badlib.strict.default\) refuses the stand-in of its contract \(1: torch.float32 \[0\]\): "
        r"prior must have rank 4, not 1",
    ),
    (
        graph(STRICT),
        {"reads": {"x"}, "stand_in": {"prior": None}},
        r"%strict \(badlib.strict.default\) refuses the stand-in of its contract \(1: None\): ",
    ),
    (
        graph(LONG),
        {"reads": {"x"}, "stand_in": {"prior": EmptyTensor((5, 2))}},
        r"%long .* yields \[\(\(5,\), torch.float32\)\], was \[\(\(3,\), torch.float32\)\], with the stand-in",
    ),
    (
        graph(STRICT, dtype=torch.bfloat16),
        {"reads": {"x"}, "stand_in": {"prior": "x"}},
        "contract of badlib::strict: the stand-in 'x' of prior has dtype torch.bfloat16 and rank 4, prior of "
        "%strict has dtype torch.float32 and rank 4",
    ),
    (
        graph(STRICT, other=True),
        {"reads": {"x"}, "stand_in": {"prior": "other", "other": "prior"}},
        "contract of badlib::strict: the stand-in 'other' of prior is no operand that is only read",
    ),
    (
        graph(STRICT),
        {"reads": lambda bound: {"x"} if bound["mode"] else set()},
        "contract of badlib::strict: `reads` failed for %strict: KeyError: 'mode'",
    ),
    (
        graph(STRICT),
        {"reads": {"x"}, "stand_in": {"k_prior": None}},
        "contract of badlib::strict: `stand_in` names unknown operand 'k_prior'; it has x, prior, other",
    ),
]


@pytest.mark.parametrize(("module", "contract", "message"), CASES)
@pytest.mark.parametrize("inplace", [False, True])
def test_refused(module: GraphModule, contract: dict[str, Any], message: str, inplace: bool) -> None:
    op = next(str(node.target) for node in module.graph.nodes if str(node.target).startswith("badlib"))
    before = str(module.graph)
    with (
        register_contract("::".join(op.split(".")[:2]), **contract),
        pytest.raises(DeadkvError, match=message) as error,
    ):
        PrunePrefixCache(policy="liveness", inplace=inplace)(module)
    assert "\n" not in str(error.value)
    assert str(module.graph) == before


@pytest.mark.parametrize("what", ["reads", "writes"])
def test_a_stand_in_for_an_operand_that_is_always_read_or_written_is_refused_at_once(what: str) -> None:
    given: dict[str, Any] = {"reads": {"x"}, what: {"x", "prior"}}
    with pytest.raises(
        DeadkvError, match=f"it gives a stand-in for 'prior', which it always {what}: drop one, or make"
    ):
        register_contract("badlib::strict", stand_in={"prior": None}, **given)


def test_a_stand_in_for_an_operand_that_is_read_in_some_calls_is_none_of_the_errors() -> None:
    module = graph(STRICT)
    with register_contract(
        "badlib::strict",
        reads=lambda bound: {"x", "prior"} if bound["other"] is None else {"x"},
        stand_in={"prior": EmptyTensor((1, 1, 1, 1))},
    ):
        assert not PrunePrefixCache(policy="liveness")(module).modified
        assert PrunePrefixCache(policy="liveness")(graph(STRICT, other=True)).report.summary["gathers_after"] == 0


def test_a_stand_in_that_the_operator_accepts_leaves_the_traced_values_alone() -> None:
    module = graph(STRICT)
    values = [node.meta.get("val") for node in module.graph.nodes]
    with register_contract("badlib::strict", reads={"x"}, stand_in={"prior": EmptyTensor((0, 0, 0, 0))}):
        result = PrunePrefixCache(policy="liveness")(module)
    assert result.report.summary["gathers_after"] == 0
    assert all(one is other for one, other in zip(values, (n.meta.get("val") for n in module.graph.nodes), strict=True))
