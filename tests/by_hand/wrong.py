"""Prunes that are right elsewhere: the graph, the prune, and what the refusal says."""

from __future__ import annotations

import operator
from collections.abc import Callable

import torch
from torch.fx import GraphModule

from tests.by_hand.calls import call_module, prune_call_module, prune_two_callers, two_callers
from tests.by_hand.edits import Edit, add_call, all_of, changed, inside, put, results, without
from tests.by_hand.graphs import drop_site
from tests.by_hand.loops import prune_scan, prune_while_loop, scan, while_loop
from tests.by_hand.markers import contracted, fixed_marker, marker, prune_contracted, prune_marker
from tests.by_hand.nested import (
    bare_result,
    cond,
    dead_region,
    nested,
    prune_bare_result,
    prune_cond,
    prune_dead_region,
    prune_nested,
)
from tests.by_hand.ops import verifylib
from tests.by_hand.wrong_graphs import (
    bare_taken,
    dead_loop,
    only_slices,
    prune_extra_first,
    prune_only_slices,
    prune_two_shapes,
    shared_with_an_unknown_operator,
    site_output,
    taken_by_one,
    two_shapes,
    unregistered,
)

aten = torch.ops.aten


WRONG: tuple[tuple[str, Callable[[], GraphModule], Edit, str], ...] = (
    (
        "one_caller_takes_the_result",
        changed(two_callers, taken_by_one),
        all_of(put("taken", "layer_1", 0), prune_two_callers),
        "%taken: it took a result|%taken: it now takes another result of %layer_1",
    ),
    (
        "operand_read_in_the_body",
        changed(call_module, inside("layer", put("add", "x", "prior"))),
        all_of(inside("layer", put("add", "x", "x")), prune_call_module),
        r"path %permute -> layer:%prior -> %add -> %output -> %layer -> %getitem -> %add -> %output",
    ),
    (
        "operand_written_in_the_body",
        changed(call_module, inside("layer", add_call(aten.zero_.default, "prior", name="extra"))),
        prune_extra_first(prune_call_module, "layer"),
        "%extra in %layer: it writes the storage of %prior, which outlives it",
    ),
    (
        "write_through_a_view_in_the_body",
        changed(
            call_module,
            inside(
                "layer",
                all_of(
                    add_call(aten.detach.default, "x", name="extra_view"),
                    add_call(aten.zero_.default, "extra_view", name="extra"),
                ),
            ),
        ),
        prune_extra_first(all_of(inside("layer", without("extra_view")), prune_call_module), "layer"),
        "%extra in %layer: it writes the storage of %x, which outlives it",
    ),
    (
        "random_in_the_body",
        changed(call_module, inside("layer", add_call(aten.bernoulli.default, "x", name="extra"))),
        prune_extra_first(prune_call_module, "layer"),
        "%extra in %layer: it draws random numbers",
    ),
    (
        "one_branch_reads",
        changed(cond, inside("no", put("add", "prior", "y"))),
        all_of(inside("no", put("add", "x", "y")), prune_cond),
        "path %permute -> cond:%prior -> %add",
    ),
    (
        "carry_steers_the_loop",
        changed(while_loop, inside("steers", put("lt", "prior", 3))),
        all_of(inside("steers", put("lt", "i", 3)), prune_while_loop),
        "path %permute -> while_loop:%prior -> %lt -> %output -> %while_loop",
    ),
    (
        "carry_feeds_another",
        changed(while_loop, inside("body", put("sub", "x", "prior"))),
        all_of(inside("body", put("sub", "x", "y")), prune_while_loop),
        "path %permute -> while_loop:%prior -> %sub",
    ),
    (
        "carries_are_swapped",
        changed(while_loop, inside("body", results("sub", "add", "mul"))),
        prune_while_loop,
        "its results are not those before less some",
    ),
    (
        "scan_carry_feeds_another",
        changed(scan, inside("body", put("add", "total", "dead"))),
        all_of(inside("body", put("add", "total", "x")), prune_scan),
        "scan:%dead -> %add",
    ),
    ("the_last_slices", only_slices, prune_only_slices, "nothing is left that says how many rounds it runs"),
    (
        "inner_result_is_returned",
        changed(nested, add_call(operator.getitem, "middle", 0, name="taken")),
        all_of(put("taken", "middle", 0), prune_nested),
        "%taken: it now takes another result of %middle",
    ),
    ("folded_for_another_shape", two_shapes, prune_two_shapes, "holds for another tensor than the call gives"),
    (
        "dead_region_writes_its_operand",
        changed(dead_region, inside("dead", put("mul_", "b", "b"))),
        prune_dead_region,
        "%dead: its graph runs %mul_, which writes the storage of %b",
    ),
    (
        "dead_region_draws",
        changed(dead_region, inside("dead", add_call(aten.bernoulli.default, "a", name="extra"))),
        prune_dead_region,
        "%dead: its graph runs %extra, and of that: it draws random numbers",
    ),
    (
        "dead_region_calls_an_unknown_operator",
        changed(dead_region, inside("dead", add_call(verifylib.unknown_fill.default, "a", "b", name="extra"))),
        prune_dead_region,
        "%dead: its graph runs %extra, and of that: nothing is known of the operator",
    ),
    (
        "write_to_a_region_result_that_is_an_operand",
        changed(dead_region, inside("dead", results("b"))),
        prune_dead_region,
        "%zero_: it writes the storage of %x, which outlives it",
    ),
    (
        "dead_loop",
        dead_loop,
        all_of(without("while_loop", "body", "steers"), drop_site),
        "%while_loop: it is a loop, which may not end",
    ),
    (
        "marker_removed",
        changed(fixed_marker, results("add")),
        all_of(without("neg", "getitem_1", "getitem", "mark_pair"), drop_site),
        "%mark_pair: it is a boundary marker, which stays",
    ),
    (
        "marker_without_lanes",
        changed(marker, all_of(results("x"), without("add", "getitem_1", "getitem"))),
        all_of(put("mark", [], 7), drop_site),
        "its lanes are not those before less some",
    ),
    (
        "marker_lane_is_taken",
        changed(marker, put("getitem", "mark", 0)),
        prune_marker,
        "%getitem: it now takes another result of %mark",
    ),
    ("graph_of_an_unknown_operator", shared_with_an_unknown_operator, prune_call_module, "it reads another object"),
    ("bare_result_is_taken", changed(bare_result, bare_taken), prune_bare_result, "%add: it reads %layer whole"),
    ("unregistered_lanes", changed(marker, unregistered(verifylib.unmarked.default)), prune_marker, "became"),
    (
        "unknown_operator",
        changed(contracted, unregistered(verifylib.unknown_fill.default)),
        prune_contracted,
        "%fill: nothing is known of the operator verifylib.unknown_fill.default",
    ),
    (
        "contracted_write_to_an_input",
        changed(contracted, put("fill", "y", "x")),
        prune_contracted,
        "%fill: it writes the storage of %y, which outlives it",
    ),
    (
        "contracted_write_is_read",
        changed(contracted, site_output),
        all_of(site_output, without("fill")),
        "%fill: it writes the storage of %permute, which outlives it",
    ),
)
