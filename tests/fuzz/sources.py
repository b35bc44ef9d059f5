"""Where a graph starts: inputs, pools that are inputs or parameters, block tables, and gathers in every spelling."""

from __future__ import annotations

import operator
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.fx import Node

from tests.fuzz.draft import Draft

aten = torch.ops.aten
BLOCKS = 6
POOL, X = (BLOCKS, 2, 2, 3), (4, 2, 2, 3)
PARAMETER = "kv.past_key_values.2"

INPUTS: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
    "past_key_values_0": (POOL, torch.float32),
    "past_key_values_1": (POOL, torch.int8),
    "active_block_table": ((2, 2), torch.int32),
    "long_block_table": ((3, 1), torch.int64),
    "x": (X, torch.float32),
    "count": ((4, 2), torch.int64),
    "mask": (X, torch.bool),
}


def draw_inputs(draft: Draft) -> None:
    """Every input of INPUTS, and a pool that is a parameter."""
    for name, (shape, dtype) in INPUTS.items():
        with draft.mode:
            node = draft.placeholder(name, torch.empty(shape, dtype=dtype))
        lane = draft.pools if "past" in name else draft.tables if "table" in name else draft.values
        lane.append(node)
    add_module(draft.root, "kv.past_key_values").register_parameter("2", parameter())
    read_parameter(draft)
    draft.values.extend(draft.pools)


def parameter() -> nn.Parameter:
    """A pool with NaN and infinities among its elements."""
    return nn.Parameter(seeded(POOL, torch.float32, torch.Generator().manual_seed(7)), requires_grad=False)


def read_parameter(draft: Draft) -> None:
    """Reads the pool that is a parameter, perhaps once more."""
    with draft.mode:
        draft.pools.append(draft.attribute(PARAMETER, torch.empty(POOL)))


def add_module(root: nn.Module, path: str) -> nn.Module:
    """The module at `path`, made with those on the way to it where they are missing."""
    for name in path.split("."):
        if name not in root._modules:
            root.add_module(name, nn.Module())
        root = root.get_submodule(name)
    return root


def example_inputs(seed: int) -> list[Tensor]:
    """Inputs with NaN and infinities among the elements of pools and activations."""
    generator = torch.Generator().manual_seed(seed)
    return [seeded(shape, dtype, generator, "table" in name) for name, (shape, dtype) in INPUTS.items()]


def overlapping_inputs(seed: int) -> list[Tensor]:
    """The same, where the activations are a view of the first pool."""
    found = dict(zip(INPUTS, example_inputs(seed), strict=True))
    found["x"] = found["past_key_values_0"][1 : 1 + X[0]]
    return list(found.values())


def seeded(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator, is_table: bool = False) -> Tensor:
    if dtype is torch.bool:
        return torch.randint(0, 2, shape, generator=generator).bool()
    if not dtype.is_floating_point:
        return torch.randint(0, BLOCKS if is_table else 9, shape, generator=generator).to(dtype)
    found = torch.randn(shape, generator=generator)
    odd = torch.rand(shape, generator=generator)
    for value, bound in ((float("nan"), 0.04), (float("inf"), 0.03), (-float("inf"), 0.02), (-0.0, 0.01)):
        found[odd < bound] = value
    return found


# Steps


def arithmetic(draft: Draft) -> None:
    """A block table after index arithmetic that stays within the pool."""
    with draft.lane(True):
        table = draft.choose.one_of([*draft.tables, *draft.indices])
        draft.indices.append(draft.choose.one_of(_ARITHMETIC)(draft, table))


_ARITHMETIC: tuple[Callable[[Draft, Node], Node], ...] = (
    lambda d, t: d.spell([aten.view.default, "view", "reshape"], t, [-1]),
    lambda d, t: d.spell([aten.clamp.default, torch.clamp, "clamp"], t, 0, BLOCKS - 1),
    lambda d, t: d.call("long", t),
    lambda d, t: d.call(aten._to_copy.default, t, dtype=torch.int64),
    lambda d, t: d.spell([aten.remainder.Scalar, operator.mod], d.call(aten.add.Tensor, t, 1), BLOCKS),
    lambda d, t: d.spell([aten.floor_divide.default, operator.floordiv], t, 2),
    lambda d, t: d.call(operator.getitem, t, 0),
)


def gather(draft: Draft) -> None:
    """A gather of a pool, mostly for the side lane."""
    choose = draft.choose
    pool = choose.one_of(draft.pools)
    if choose.chance(4):
        pool = choose.one_of(_OF_POOL)(draft, pool)
    index = choose.one_of([*draft.tables, *draft.indices])
    if index.meta["val"].dim() != 1:
        index = draft.choose.one_of(_ARITHMETIC[:1])(draft, index)
    with draft.lane(not choose.chance(draft.leak)):
        draft.add(choose.one_of(_GATHERS)(draft, pool, index))


_OF_POOL: tuple[Callable[[Draft, Node], Node], ...] = (
    lambda d, p: d.spell([aten.detach.default, "detach"], p),
    lambda d, p: (
        d.spell([aten._to_copy.default, "to"], p, dtype=torch.float64) if d.choose.number(0, 1) else d.call("float", p)
    ),
    lambda d, p: d.call(aten.mul.Tensor, p, 0.5),
    lambda d, p: d.call("reshape", p, BLOCKS, -1),
)

_GATHERS: tuple[Callable[[Draft, Node, Node], Node], ...] = (
    lambda d, p, i: d.spell([aten.index_select.default, torch.index_select, "index_select"], p, 0, i),
    lambda d, p, i: d.call(torch.index_select, input=p, dim=0, index=i),
    lambda d, p, i: d.call(aten.index.Tensor, p, [i]),
    lambda d, p, i: d.call(operator.getitem, p, i),
    lambda d, p, i: d.call(operator.getitem, p, (i, slice(None), 1)),
    lambda d, p, i: d.spell([aten.embedding.default], d.call("reshape", p, BLOCKS, -1), i),
    lambda d, p, i: d.call(F.embedding, i, d.call("reshape", p, BLOCKS, -1)),
    lambda d, p, i: d.spell(
        [aten.take_along_dim.default, torch.take_along_dim], p, d.call("view", d.call("long", i), -1, 1, 1, 1), 0
    ),
    lambda d, p, i: d.spell(
        [aten.gather.default, torch.gather, "gather"],
        p,
        0,
        d.call("expand", d.call("view", d.call("long", i), -1, 1, 1, 1), -1, *POOL[1:]),
    ),
)

STEPS = (arithmetic, gather, gather, gather)
