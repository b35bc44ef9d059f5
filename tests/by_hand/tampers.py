"""What no prune may do: a case, what is done to its right result, and what the refusal says."""

from __future__ import annotations

import torch
from torch import nn
from torch.fx import GraphModule

from tests.by_hand.edits import Edit, aim, all_of, an_insertion, inside, put, results, swap, without
from tests.by_hand.graphs import layer
from tests.support.regions import RegionBuilder, keep_values, node, set_results, sharing_copy

aten = torch.ops.aten


def put_back(path: str) -> Edit:
    """Puts the unpruned body of a case where the pruned one was."""

    def edit(module: GraphModule) -> None:
        build = RegionBuilder()
        original = layer(build)
        original.steps = module.get_submodule(path).steps
        module.set_submodule(path, original)

    return edit


def another_parameter(path: str) -> Edit:
    return lambda module: setattr(module.get_submodule(path), "steps", nn.Parameter(torch.zeros(1)))


def renamed_parameter(module: GraphModule) -> None:
    module.layer.register_parameter("rounds", module.layer.steps)
    del module.layer.steps
    node(module.layer, "steps").target = "rounds"


def a_new_parameter(module: GraphModule) -> None:
    module.layer.register_parameter("more", nn.Parameter(torch.zeros(1)))


def a_carry_more(path: str, name: str) -> Edit:
    """Gives a graph an input that it did not have."""

    def edit(module: GraphModule) -> None:
        graph = module.get_submodule(path).graph
        with graph.inserting_before(next(iter(graph.nodes))):
            graph.placeholder(name)

    return edit


def drop_live(operand_call: Edit) -> Edit:
    """The body of `layer` loses `y`, which its sum needs."""
    return all_of(inside("layer", all_of(put("add", "x", "x"), without("y"))), operand_call)


def another_body(module: GraphModule) -> None:
    module.other = sharing_copy(module.layer)
    node(module, "layer").target = "other"


TAMPERS: tuple[tuple[str, str, Edit, str], ...] = (
    ("call_module", "live_operand", drop_live(put("layer", "x")), r"path %y -> layer:%y -> %add -> %output -> %layer"),
    ("call_module", "operands_swapped", put("layer", "y", "x"), "input %x was given x and now is given y"),
    ("call_module", "operand_not_dropped", put("layer", "x", "x", "y"), "no longer fit together"),
    (
        "call_module",
        "renumbered_wrongly",
        put("getitem", "layer", 1),
        "%getitem: it now takes another result of %layer",
    ),
    ("call_module", "taken_out_of_range", put("getitem", "layer", 2), "%getitem: it took a result of %layer that is"),
    ("call_module", "write", inside("layer", without("add_")), r"%add_ in %layer: it writes the storage of %steps"),
    (
        "call_module",
        "constant",
        inside("layer", put("sub", "x", 4)),
        r"argument 1 became 4.*path layer:%sub -> %output",
    ),
    ("call_module", "float_constant", inside("layer", put("sub", "x", 3.0)), "argument 1 became 3.0"),
    ("call_module", "operator", inside("layer", aim("sub", aten.add.Tensor)), "another computation"),
    ("call_module", "order", inside("layer", swap("add", "sub")), "%sub in %layer: it now runs before %add"),
    ("call_module", "results_swapped", inside("layer", results("sub", "add")), "results are not those before"),
    ("call_module", "result_doubled", inside("layer", results("add", "sub", "sub")), "results are not those before"),
    ("call_module", "live_result", inside("layer", results("add")), "no longer fit|recorded value|that is gone"),
    ("call_module", "another_body", another_body, "layer became other"),
    ("call_module", "body_put_back", put_back("layer"), "no longer fit together"),
    ("call_module", "parameter_replaced", another_parameter("layer"), "parameters changed: steps is another object"),
    ("call_module", "parameter_renamed", renamed_parameter, "parameters changed: steps is gone"),
    ("call_module", "parameter_added", a_new_parameter, "parameters changed: more is new"),
    ("call_module", "input_added", a_carry_more("layer", "z"), "no longer fit together"),
    ("call_module", "insertion", inside("layer", an_insertion), "%zero_.* was inserted"),
    ("call_module", "recorded_value", lambda module: keep_values(module, "layer", 0), "its recorded value"),
    ("call_module", "whole_result", put("output", ("layer",)), "became layer|reads %layer whole"),
    ("two_callers", "keyword", lambda m: setattr(node(m, "layer_1"), "kwargs", {"y": node(m, "y")}), "%y was given x"),
    ("two_callers", "one_caller", put("getitem_2", "layer_1", 1), "%getitem_2: it now takes another result"),
    ("split_callers", "wrong_caller", aim("layer", "layer_pruned"), "no longer fit together"),
    ("split_callers", "right_path", lambda m: setattr(m, "layer", m.layer_pruned), "no longer fit together"),
    (
        "split_callers",
        "parameter",
        another_parameter("layer_pruned"),
        "%layer_1.* parameters changed: steps is another",
    ),
    ("dict_results", "not_renumbered", put("getitem_1", "getitem", 1), "%getitem_1: it now takes another result"),
    ("dict_results", "key", inside("layer", lambda m: set_results(m, {"old": ("add", "sub")})), "not those before"),
    ("invoke_shared", "operand", put("invoke_subgraph_1", "region", "region_0", "x", "y"), "%x was given y"),
    ("invoke_shared", "identifier", put("invoke_subgraph", "region", "region_1", "x", "y"), "no name of a pruned copy"),
    ("invoke_shared", "result_of_one", inside("region", results("add")), "recorded value|that is gone"),
    ("invoke_shared", "write", inside("region", without("add_")), "%add_ in %invoke_subgraph: it writes the storage"),
    (
        "invoke_split",
        "identifier",
        put("invoke_subgraph_1", "region_pruned", "region_0", "getitem", "x"),
        "the identifier region_0 stands for two different graphs",
    ),
    ("invoke_split", "graph", put("invoke_subgraph_1", "region", "region_0", "getitem", "x"), "no longer fit together"),
    (
        "invoke_split",
        "constant",
        inside("region_pruned", put("sub", "x", 4)),
        r"path invoke_subgraph_1:%sub -> %output -> %invoke_subgraph_1 -> %getitem_4 -> %add_2 -> %output",
    ),
    ("cond", "one_branch", put_back("no"), "no longer fit together"),
    ("cond", "another_input", inside("no", aim("x", "z")), "%x in %cond"),
    ("cond", "predicate", put("cond", "x", "yes", "no", ("x", "y")), "it was steered by"),
    ("cond", "branches_swapped", put("cond", "gt", "no", "yes", ("x", "y")), "steps is another object"),
    ("cond", "operands_swapped", put("cond", "gt", "yes", "no", ("y", "x")), "%x was given x and now is given y"),
    ("cond", "one_result", inside("no", results("sub", "add")), "results are not those before"),
    ("cond", "constant", inside("no", put("sub", "x", 4)), "%sub in %cond: argument 1 became 4"),
    (
        "while_loop",
        "carry_not_yielded",
        all_of(inside("body", results("add")), put("while_loop", "steers", "body", ("count", "x"), ("y",))),
        "no longer fit together|not its carries",
    ),
    ("while_loop", "carry_as_operand", put("while_loop", "steers", "body", ("count",), ("x", "y")), "bound in another"),
    ("while_loop", "operand_as_carry", put("while_loop", "steers", "body", ("count", "x", "y"), ()), "no longer fit"),
    ("while_loop", "carries_swapped", inside("body", results("sub", "add")), "results are not those before"),
    (
        "while_loop",
        "start_swapped",
        put("while_loop", "steers", "body", ("x", "count"), ("y",)),
        "input %i was given count and now is given x",
    ),
    ("while_loop", "condition", inside("steers", put("lt", "i", 4)), "%lt in %while_loop: argument 1 became 4"),
    (
        "while_loop",
        "condition_reads",
        inside("steers", results("x")),
        "%output in %while_loop: it yields another value",
    ),
    ("while_loop", "not_renumbered", put("getitem", "while_loop", 1), "%getitem: it now takes another result"),
    ("scan", "no_slices", put("scan", "body", ["zeros"], [], ("zeros",)), "no longer fit together"),
    ("scan", "slices_as_operand", put("scan", "body", ["zeros"], [], ("x", "zeros")), "bound in another way"),
    ("scan", "carries_swapped", inside("body", results("div", "add")), "results are not those before"),
    ("scan", "other_slices", put("scan", "body", ["zeros"], ["y"], ("zeros",)), "%x was given x and now is given y"),
    ("scan", "not_renumbered", put("getitem_1", "scan", 0), "%getitem_1: it now takes another result"),
    ("nested", "inner_constant", inside("middle.inner", put("sub", "x", 4)), "middle:invoke_subgraph:%sub -> %output"),
    ("nested", "inner_write", inside("middle.inner", without("add_")), "%add_ in %invoke_subgraph in %middle"),
    ("nested", "inner_not_renumbered", inside("middle", put("getitem_1", "invoke_subgraph", 1)), "in %middle: it now"),
    (
        "nested",
        "inner_operands",
        inside("middle", put("invoke_subgraph", "inner", "inner_0", "c", "a")),
        "%x was given",
    ),
    ("nested", "parameter", another_parameter("middle.inner"), "parameters changed"),
    ("folded_size", "wrong_size", inside("layer", put("mul_1", "x", 15)), "%prior|argument 1 became 15"),
    ("folded_size", "a_float", inside("layer", put("mul_1", "x", 16.0)), "argument 1 became 16.0"),
    ("bare_result", "taken", put("output", ("layer",)), "became|reads %layer whole"),
    ("dead_region", "live_region", all_of(put("getitem_1", "x", 0)), "became"),
    ("marker", "not_renumbered", put("getitem", "mark", 1), "%getitem: it now takes another result of %mark"),
    ("marker", "lanes_swapped", put("mark", ["y", "x"], 7), "its lanes are not those before"),
    ("marker", "live_lane", put("mark", ["x"], 7), "that is gone"),
    ("marker", "identity", put("mark", ["x", "y"], 8), "became"),
    ("fixed_marker", "live_lane", put("mark_pair", "x", "x"), "its lanes are not those before|another result"),
    ("fixed_marker", "other_operand", put("mark_pair", "x", "add"), "its lanes are not those before"),
    ("contracted", "operand", put("add", "x", "x"), "argument 1 became x"),
)
