"""The hand-made prunes that are right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch.fx import GraphModule

from tests.by_hand.calls import (
    call_module,
    dict_results,
    invoke_shared,
    invoke_split,
    prune_call_module,
    prune_dict_results,
    prune_invoke_shared,
    prune_invoke_split,
    prune_split_callers,
    prune_two_callers,
    split_callers,
    two_callers,
)
from tests.by_hand.edits import Edit
from tests.by_hand.loops import prune_scan, prune_while_loop, scan, while_loop
from tests.by_hand.markers import contracted, fixed_marker, marker, prune_contracted, prune_fixed_marker, prune_marker
from tests.by_hand.nested import (
    bare_result,
    cond,
    dead_region,
    folded_size,
    nested,
    prune_bare_result,
    prune_cond,
    prune_dead_region,
    prune_folded_size,
    prune_nested,
)
from tests.support.regions import sharing_copy


@dataclass(frozen=True)
class Case:
    """A graph, and how to prune it by hand."""

    before: Callable[[], GraphModule]
    prune: Edit


CASES = {
    case.before.__name__: case
    for case in (
        Case(call_module, prune_call_module),
        Case(two_callers, prune_two_callers),
        Case(split_callers, prune_split_callers),
        Case(dict_results, prune_dict_results),
        Case(invoke_shared, prune_invoke_shared),
        Case(invoke_split, prune_invoke_split),
        Case(cond, prune_cond),
        Case(while_loop, prune_while_loop),
        Case(scan, prune_scan),
        Case(nested, prune_nested),
        Case(folded_size, prune_folded_size),
        Case(dead_region, prune_dead_region),
        Case(bare_result, prune_bare_result),
        Case(marker, prune_marker),
        Case(fixed_marker, prune_fixed_marker),
        Case(contracted, prune_contracted),
    )
}


def pruned(name: str) -> tuple[GraphModule, GraphModule]:
    """The graph of a case before and after."""
    before = CASES[name].before()
    after = sharing_copy(before)
    CASES[name].prune(after)
    after.graph.lint()
    return before, after
