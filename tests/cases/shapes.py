"""Rows that need a site's metadata and none of its elements."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx import Node

from tests.cases.building import CaseBuilder, aten
from tests.cases.case import NOT_FX, TRACED, built, case
from tests.cases.sites import indexed, site


# shape_only: only the shape is used.
@case("shape_only", "shape", goes=True, static=True, plain={"fx": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x + site(past_key_values_0, block_table).shape[2]


@case("shape_only", "size", goes=True, static=True, plain={"fx": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x * indexed(past_key_values_0, block_table).size(-1)


@case("shape_only", "all_sizes", goes=True, static=True, plain={"fx": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x.expand(site(past_key_values_0, block_table).size())


@case("shape_only", "numel_of_sum", goes=True, static=True, plain={"fx": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x * (site(past_key_values_0, block_table) + 1).numel()


@built("shape_only", "size_of_one_dimension", goes=True, plain={"*": 1})
def _(build: CaseBuilder, x: Node, pool: Node, table: Node) -> object:
    return build.call(aten.mul.Tensor, x, build.call(aten.sym_size.int, build.site(pool, table), 2))


@built("shape_only", "size_that_is_an_output", goes=True, plain={"*": 1})
def _(build: CaseBuilder, x: Node, pool: Node, table: Node) -> object:
    return x, build.call(aten.sym_size.int, build.site(pool, table), 2)


@built("shape_only", "item_of_all_sizes", goes=True, plain={"*": 1})
def _(build: CaseBuilder, x: Node, pool: Node, table: Node) -> object:
    prior = build.site(pool, table)
    sizes = build.graph.call_function(getattr, (prior, "shape"))
    sizes.meta["val"] = prior.meta["val"].shape
    return build.call(aten.mul.Tensor, x, build.item(sizes, 2)), sizes


@built("shape_only", "size_given_to_a_nested_graph", goes=True, plain={"*": 1})
def _(build: CaseBuilder, x: Node, pool: Node, table: Node) -> object:
    inner = build.nested()
    size = build.call(aten.sym_size.int, build.site(pool, table), 2)
    given = inner.graph.placeholder("size")
    given.meta["val"] = size.meta["val"]
    scaled = inner.call(aten.mul.Tensor, inner.input("x", 3, 2, 16, 8), given)
    return build.item(build.call_module(build.body("layer", inner.module(scaled)), size, x), 0)


@built("shape_only", "size_that_a_nested_graph_yields", goes=True, plain={"*": 1})
def _(build: CaseBuilder, x: Node, pool: Node, table: Node) -> object:
    inner = build.nested()
    size = inner.call(aten.sym_size.int, inner.input("prior", 3, 2, 16, 8), 2)
    layer = build.body("layer", inner.module(size))
    return build.call(aten.mul.Tensor, x, build.item(build.call_module(layer, build.site(pool, table)), 0))


@built("shape_only", "stride_of_a_view", goes=True, plain={"*": 1})
def _(build: CaseBuilder, x: Node, pool: Node, table: Node) -> object:
    view = build.call(aten.transpose.int, build.site(pool, table), 2, 3)
    return build.call(aten.add.Tensor, x, build.call(aten.sym_stride.int, view, 3))


@built("shape_only", "size_of_what_is_computed", goes=True, plain={"*": 1})
def _(build: CaseBuilder, x: Node, pool: Node, table: Node) -> object:
    doubled = build.call(aten.mul.Tensor, build.site(pool, table), 2)
    count = build.call(aten.sym_numel.default, doubled)
    return build.call(aten.add.Tensor, x, count)


@case("shape_only", "twin_item", goes=False, levels=("fx", "export"))
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x * indexed(past_key_values_0, block_table)[0, 0, 0, 0].item()


@case("shape_only", "twin_max_value", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    prior = site(past_key_values_0, block_table)
    return x * prior.size(2) + prior.max()


# like_factory: a new tensor of the same shape.
@case("like_factory", "zeros_like", goes=True, static=True, plain={"*": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x + torch.zeros_like(site(past_key_values_0, block_table))


@case("like_factory", "full_like", goes=True, static=True, plain={"*": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x + torch.full_like(indexed(past_key_values_0, block_table), 2.5, dtype=torch.float64)


@case("like_factory", "new_zeros", goes=True, static=True, plain={"*": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x + site(past_key_values_0, block_table).new_zeros(3, 2, 16, 8)


@case("like_factory", "written_empty_like", goes=True, static=True, plain={"*": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return torch.empty_like(site(past_key_values_0, block_table)).copy_(x)


@case("like_factory", "twin_clone", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x + torch.clone(site(past_key_values_0, block_table))


# expand_as: the other operand gives only its shape.
@case("expand_as", "expand_as", goes=True, static=True, plain={"dynamo": 1, "export": 1, "fx": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x[:, :, :1].expand_as(site(past_key_values_0, block_table)) * 2


@case("expand_as", "view_as", goes=True, static=True, plain={"dynamo": 1, "export": 1, "fx": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x.view_as(site(past_key_values_0, block_table)) * 2


@case("expand_as", "type_as", goes=True, static=True, plain={"dynamo": 1, "export": 1, "fx": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return (x * 3).type_as(site(past_key_values_0, block_table)) * 2


@case("expand_as", "twin_self", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return site(past_key_values_0, block_table).expand_as(x) * 2


# assert_only: assertions about metadata, which the trace has proven.
@case("assert_only", "dtype", goes=True, static=True, plain={"*": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    torch.ops.aten._assert_tensor_metadata.default(site(past_key_values_0, block_table), None, None, torch.float32)
    return x + 1


@case("assert_only", "device_at_each_step", goes=True, static=True, plain={"*": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    prior = indexed(past_key_values_0, block_table)
    torch.ops.aten._assert_tensor_metadata.default(prior, device=torch.device("cpu"))
    scaled = prior.mul(2).contiguous()
    torch.ops.aten._assert_tensor_metadata.default(scaled, dtype=torch.float32, layout=torch.strided)
    return x + 1


@case("assert_only", "check_of_a_size", goes=True, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    torch._check(site(past_key_values_0, block_table).size(2) == 16)
    return x + 1


@case("assert_only", "twin_on_data", goes=False, plain={"*": 0}, unsound=TRACED)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    prior = site(past_key_values_0, block_table)
    torch.ops.aten._assert_async.default(prior.eq(prior).any())
    return x + 1


@case("assert_only", "twin_on_one_element", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    first = indexed(past_key_values_0, block_table)[0, 0, 0, 0]
    torch.ops.aten._assert_async.msg(first.abs() < 100, "the first element is too large")
    return x + 1


@built("assert_only", "size_and_stride", goes=True, plain={"*": 1})
def _(build: CaseBuilder, x: Node, pool: Node, table: Node) -> object:
    prior = build.site(pool, table)
    build.graph.call_function(aten._assert_tensor_metadata.default, (prior, [3, 2, 16, 8], [256, 8, 16, 1]))
    return build.call(aten.add.Tensor, x, 1)


@built("assert_only", "twin_not_traced", goes=False)
def _(build: CaseBuilder, x: Node, pool: Node, table: Node) -> object:
    prior = build.site(pool, table)
    del prior.meta["val"]
    build.graph.call_function(aten._assert_tensor_metadata.default, (prior, [3, 2, 16, 8]))
    return build.call(aten.add.Tensor, x, 1)
