"""What is written back: names of changed graphs, closed-up indices, copied modules, recorded inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.fx import GraphModule, Node

from passes import PrunePrefixCache, PruneResult, register_contract
from passes.shrink import CAPTURE
from tests.cases import ops
from tests.support.builder import decode_graph, decode_inputs
from tests.support.prunes import check_prune
from tests.support.regions import RegionBuilder

aten = torch.ops.aten
X = (3, 2, 16, 8)
LIVENESS = PrunePrefixCache(policy="liveness")


class Decode(RegionBuilder):
    """Inputs `x` and `active_block_table`, a pool and its site `prior`."""

    def __init__(self) -> None:
        super().__init__()
        self.x = self.input("x", *X)
        self.table = self.input("active_block_table", 3, 4, dtype=torch.int32)
        self.prior = self.site(self.parameter("past_key_values.0", 10, 4, 2, 8), self.table)

    def layer(self) -> GraphModule:
        """`(x, prior) -> (x + 1, prior * 2)`."""
        inner = self.nested()
        x, prior = inner.input("x", *X), inner.input("prior", *X)
        return inner.returning((inner.call(aten.add.Tensor, x, 1), inner.call(aten.mul.Tensor, prior, 2)))


def pruned(module: GraphModule) -> PruneResult:
    result = check_prune(module, decode_inputs(), policy="liveness")
    assert result.modified
    return result


@pytest.mark.parametrize(
    ("taken", "becomes"),
    [
        ((), ["layer_pruned"]),
        (("layer_pruned",), ["layer_pruned_1"]),
        (("layer_pruned", "layer_pruned_1"), ["layer_pruned_2"]),
        (("layer_pruned_1",), ["layer_pruned"]),
    ],
)
def test_a_changed_copy_gets_the_first_free_name(taken: tuple[str, ...], becomes: list[str]) -> None:
    build = Decode()
    for name in ("layer", *taken):
        build.body(name, build.layer())
    first = build.call_module("layer", build.x, build.prior)
    second = build.call_module("layer", build.item(first, 0), build.x)
    others = [build.item(build.call_module(name, build.x, build.x), 1) for name in taken]
    result = pruned(build.returning((build.item(second, 0), build.item(second, 1), *others)))
    assert [region.becomes for region in result.report.regions] == becomes
    assert result.report.sites[0].status == "pruned"


def test_an_index_deep_in_the_results_closes_up() -> None:
    """Taken is result 2 of the container that is itself result 1; once a result before it goes, it is result 1."""
    build = Decode()
    inner = build.nested()
    x, prior = inner.input("x", *X), inner.input("prior", *X)
    dead, kept = inner.call(aten.mul.Tensor, prior, 2), inner.call(aten.neg.default, x)
    build.body("layer", inner.returning((x, (dead, x, kept))))
    call = build.call_module("layer", build.x, build.prior)
    module = build.returning((build.item(build.item(call, 1), 2), build.item(build.item(call, 1), 1)))
    after = pruned(module).graph_module
    (x, *_) = inputs = decode_inputs()
    torch.testing.assert_close(after(*inputs), (-x, x))


def write_in(build: RegionBuilder, x: Node, prior: Node) -> Node:
    """Copies the prefix over what `x` was used for before; the copy is dead."""
    made = build.call(aten.relu.default, x)
    kept = build.call(aten.neg.default, made)
    build.call(aten.copy_.default, made, prior)
    return kept


def test_a_dead_write_in_a_nested_graph_into_storage_that_is_still_used_there_keeps_the_site() -> None:
    build = Decode()
    inner = build.nested()
    x, prior = inner.input("x", *X), inner.input("prior", *X)
    build.body("layer", inner.returning((write_in(inner, x, prior),)))
    call = build.call_module("layer", build.x, build.prior)
    result = check_prune(build.returning((build.item(call, 0),)), decode_inputs(), policy="liveness")
    (site,) = result.report.sites
    assert site.status == "live"


def test_a_dead_write_into_storage_of_its_own_goes_with_the_site() -> None:
    build = Decode()
    made = build.call(aten.relu.default, build.x)
    build.call(aten.copy_.default, made, build.prior)
    result = pruned(build.returning((build.x,)))
    assert result.report.sites[0].status == "pruned"
    assert [node.name for node in result.graph_module.graph.nodes] == ["x", "active_block_table", "output"]


class Counter:
    def __init__(self) -> None:
        self.calls = 0

    def count(self) -> None:
        self.calls += 1


def test_bound_methods_of_the_module_are_bound_to_the_copy_and_those_of_others_stay() -> None:
    module, counter = decode_graph(), Counter()
    module.own, module.other = module.train, counter.count  # type: ignore[assignment]
    copied = LIVENESS(module).graph_module
    assert copied.own.__self__ is copied and copied.other.__self__ is counter


@dataclass(frozen=True)
class Record:
    inputs: tuple[str, ...]
    aliases: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Note:
    text: str = "seen"


class Plain:
    inputs = ("x",)
    aliases = ()


@pytest.mark.parametrize("record", [Note(), Plain(), Record, None, "a text"])
def test_a_record_of_another_kind_is_left_alone_when_inputs_are_dropped(record: Any) -> None:
    module = decode_graph()
    module.meta[CAPTURE] = record
    result = PrunePrefixCache(policy="liveness", shrink_inputs=True)(module)
    assert result.graph_module.meta[CAPTURE] is record
    assert result.input_map is not None and result.input_map.indices == (0, None)


def test_recorded_inputs_are_those_that_are_left() -> None:
    module = decode_graph()
    module.meta[CAPTURE] = Record(("x", "active_block_table"))
    result = PrunePrefixCache(policy="liveness", shrink_inputs=True)(module)
    assert result.graph_module.meta[CAPTURE] == Record(("x",))


@pytest.mark.parametrize("writes", [{"prior"}, {"x", "prior"}, ()])
def test_an_operand_that_a_contract_reads_stays_whether_or_not_it_is_also_written(writes: Any) -> None:
    build = Decode()
    pool = build.parameter("past_key_values.0", 10, 4, 2, 8)
    used = build.call(ops.attend_unknown, build.x, pool, build.table, build.prior)
    module = build.returning((used,))
    with register_contract("caselib::attend_unknown", reads={"x", "prior"}, writes=writes):
        assert [site.status for site in LIVENESS(module).report.sites] == ["live"]
    with register_contract("caselib::attend_unknown", reads={"x"}, writes=()):
        assert [site.status for site in LIVENESS(module).report.sites] == ["pruned"]


def test_copies_that_differ_get_a_name_each() -> None:
    build = Decode()
    inner = build.nested()
    x, p, q = (inner.input(name, *X) for name in ("x", "p", "q"))
    doubled, tripled = inner.call(aten.mul.Tensor, p, 2), inner.call(aten.mul.Tensor, q, 3)
    build.body("layer", inner.returning((inner.call(aten.add.Tensor, x, 1), doubled, tripled)))
    first = build.call_module("layer", build.x, build.prior, build.x)
    second = build.call_module("layer", build.x, build.x, build.prior)
    result = pruned(build.returning((build.item(first, 2), build.item(second, 1))))
    assert [region.becomes for region in result.report.regions] == ["layer_pruned", "layer_pruned_1"]
    assert [region.operands for region in result.report.regions] == [("p",), ("q",)]


def test_what_only_a_dead_carry_became_goes_too() -> None:
    build = Decode()
    inner = build.nested()
    hidden, past, row = inner.input("hidden", *X), inner.input("past", *X), inner.input("row", *X[1:])
    becomes = inner.call(aten.exp.default, hidden)
    build.body("combine", inner.returning((inner.call(aten.add.Tensor, hidden, row), becomes)))
    loop = build.scan("combine", [build.x, build.prior], [build.x])
    after = pruned(build.returning((build.item(loop, 0),))).graph_module
    names = [node.name for node in after.get_submodule("combine").graph.nodes]  # type: ignore[union-attr]
    assert names == ["hidden", "row", "add", "output"] and past.name not in names


def test_what_only_a_dead_carry_began_as_goes_too() -> None:
    build = Decode()
    inner = build.nested()
    hidden, total, row, past = (
        inner.input(name, *shape) for name, shape in (("hidden", X), ("total", X), ("row", X[1:]), ("past", X))
    )
    results = inner.call(aten.add.Tensor, hidden, row), inner.call(aten.add.Tensor, total, past)
    build.body("combine", inner.returning(results))
    began = build.call(aten.exp.default, build.x)
    loop = build.scan("combine", [build.x, began], [build.x], build.prior)
    after = pruned(build.returning((build.item(loop, 0),))).graph_module
    assert began.name not in {node.name for node in after.graph.nodes}


def test_a_dead_site_in_a_graph_that_needs_all_it_is_given_goes() -> None:
    build = Decode()
    inner = build.nested()
    pool, table = inner.input("pool", 10, 4, 2, 8), inner.input("table", 3, 4, dtype=torch.int32)
    inner.site(pool, table)
    build.body("layer", inner.returning((inner.call(aten.neg.default, pool), inner.call(aten.neg.default, table))))
    call = build.call_module("layer", build.parameter("past_key_values.0", 10, 4, 2, 8), build.table)
    result = pruned(build.returning((build.item(call, 0), build.item(call, 1), build.prior)))
    assert [site.status for site in result.report.sites] == ["live", "pruned"]
    assert len(result.graph_module.get_submodule("layer").graph.nodes) == 5  # type: ignore[union-attr, arg-type]
