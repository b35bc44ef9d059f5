"""Calls of custom operators and markers: pure, writing, opaque, with one result or several."""

from __future__ import annotations

import operator

from torch import Tensor
from torch.fx import Node

from tests.cases import ops
from tests.fuzz import kernels
from tests.fuzz.draft import Draft, UnfitError, is_float


def read_set(draft: Draft, bits: int) -> tuple[int, int]:
    """What a kernel reads, and what its contract says that it reads, which is that or more."""
    reads = draft.choose.number(0, 2**bits - 1)
    more = draft.choose.number(0, 2**bits - 1) if draft.choose.chance(4) else 0
    return reads, reads | more


def operand(draft: Draft, read: int) -> Node | None:
    """An operand that is read or not; now and then none is given."""
    if draft.choose.chance(8):
        return None
    return draft.pick() if read & 1 else draft.pick_unread()


def blend(draft: Draft) -> None:
    reads, declared = read_set(draft, 3)
    given = [operand(draft, declared >> index) for index in range(3)]
    target = draft.choose.one_of([kernels.blend, kernels.blend, kernels.blend, kernels.unknown])
    draft.add(draft.call(target, draft.pick(), *given, reads, declared))


def by_name(draft: Draft) -> None:
    """The same with its operands as keywords, in another order."""
    reads, declared = read_set(draft, 3)
    given = {name: operand(draft, declared >> index) for index, name in enumerate("abc")}
    draft.add(draft.call(kernels.blend, draft.pick(), declared=declared, reads=reads, **dict(reversed(given.items()))))


def strict(draft: Draft) -> None:
    """A kernel that takes no None: unread operands need a stand-in, and the last has none."""
    reads, declared = read_set(draft, 3)
    x = draft.pick()
    a, c = draft.pick_unread(), draft.pick_unread()
    b = draft.pick_unread(lambda value: _is_alike(value, x.meta["val"]))
    draft.add(draft.call(kernels.strict, x, a, b, c, reads, declared))


def _is_alike(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.dim() == other.dim()


def twins(draft: Draft) -> None:
    reads, declared = read_set(draft, 2)
    given = [operand(draft, declared >> index) for index in range(2)]
    take(draft, draft.call(kernels.twins, draft.pick(), *given, reads, declared))


def take(draft: Draft, results: Node) -> None:
    """Takes some of the results of a call, each once or more, or none."""
    for _ in range(draft.choose.number(0, 2)):
        index = draft.choose.number(0, len(results.meta["val"]) - 1)
        draft.add(draft.call(operator.getitem, results, index))


def store(draft: Draft) -> None:
    into = draft.pick_target()
    with draft.lane(into in draft.side):
        reads, declared = read_set(draft, 3)
        x = draft.pick() if declared & 2 else draft.pick_unread()
        target = draft.choose.one_of([kernels.store, kernels.store, kernels.unknown_store])
        draft.call(target, into, x, operand(draft, declared >> 2), reads, declared)


def store_some(draft: Draft) -> None:
    a, b = draft.pick_target(), draft.pick_target()
    draft.add(draft.call(kernels.store_some, a, b, draft.pick(), draft.choose.number(0, 3)))


def peek(draft: Draft) -> None:
    """A kernel whose result shares its operand's memory."""
    _, declared = read_set(draft, 1)
    draft.add(draft.call(kernels.peek, draft.pick(), operand(draft, declared), 0, declared))


def hidden(draft: Draft) -> None:
    """An opaque kernel that writes an operand although its schema does not say so."""
    draft.add(draft.call(kernels.hidden, draft.pick(), draft.pick_target()))


def attend(draft: Draft) -> None:
    """The kernels of the case table, with a block table or without."""
    table = draft.choose.one_of([*draft.tables, None])
    pool = draft.choose.one_of(draft.pools)
    prior = draft.pick() if table is None else draft.pick_unread()
    target = draft.choose.one_of([ops.attend, ops.attend, ops.attend_unknown])
    draft.add(draft.call(target, draft.pick(is_float), pool, table, prior))


def anchor(draft: Draft) -> None:
    """Block-TKG attention, whose operands say which pools and which table there are; it is always an output."""
    if draft.depth:
        raise UnfitError
    pools = draft.choose.one_of(draft.pools), draft.choose.one_of(draft.pools)
    found = draft.call(ops.attention_block_tkg, draft.pick(is_float), *pools, draft.choose.one_of(draft.tables))
    draft.returned.append(draft.add(found))


def mark(draft: Draft) -> None:
    lanes = [draft.pick_unread() for _ in range(draft.choose.number(1, 3))]
    target = draft.choose.one_of([ops.mark, ops.mark, ops.unregistered_mark])
    take_lanes(draft, draft.call(target, lanes, draft.choose.number(0, 1)), lanes)


def mark_pair(draft: Draft) -> None:
    lanes = [draft.pick_unread(), draft.pick_unread()]
    target = draft.choose.one_of([ops.mark_pair, ops.mark_pair, ops.unregistered_pair])
    take_lanes(draft, draft.call(target, *lanes), lanes)


def take_lanes(draft: Draft, marker: Node, lanes: list[Node]) -> None:
    """Takes results of a marker, each into the lane that its operand was in."""
    for index in draft.choose.some_of(range(len(lanes)), 2):
        with draft.lane(lanes[index] in draft.side):
            draft.add(draft.call(operator.getitem, marker, index))


STEPS = (blend, blend, by_name, strict, twins, store, store, store_some, peek, attend, mark, mark_pair, hidden, anchor)
