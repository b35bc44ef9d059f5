"""Nested graphs and ops that write operands, against torch eager."""

from collections.abc import Callable, Iterator
from operator import getitem
from typing import Any

import jax
import pytest
import torch
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop
from torch.fx import Graph, GraphModule

from passes.errors import DeadkvError
from tests.support.lowering import floats
from tracing.backends.hlo.context import LoweringContext
from tracing.backends.hlo.execute import execute
from tracing.backends.hlo.lower import lower
from tracing.backends.hlo.program import load_program
from tracing.backends.kernels import Kernel
from tracing.backends.targets import get_target
from tracing.capture import capture

X = floats(3, 4)
aten, higher_order = torch.ops.aten, torch.ops.higher_order


@pytest.fixture
def write_op() -> Iterator[Any]:
    """A custom op that adds to its operand and returns the sum of what it added."""
    library = torch.library.Library("deadkv_regions", "FRAGMENT")
    library.define("add_rows(Tensor x, Tensor(a!) cache) -> Tensor")
    library.impl("add_rows", lambda x, cache: cache.add_(x).sum() * 0 + x.sum(), "CompositeExplicitAutograd")
    torch.library.register_fake("deadkv_regions::add_rows", lambda x, cache: x.new_empty(()), lib=library)
    yield torch.ops.deadkv_regions.add_rows.default
    library._destroy()


def add_rows_reference(x: torch.Tensor, cache: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x.sum(), cache + x


def context(target: str = "inf2") -> LoweringContext:
    reference = f"{__name__}:add_rows_reference"
    kernels = {"deadkv_regions::add_rows": Kernel("add_rows", reference, results=1, neuron_core=3, writes=("cache",))}
    return LoweringContext(get_target(target), kernels)


class Region(torch.nn.Module):
    def __init__(self, body: Callable[..., Any]) -> None:
        super().__init__()
        self.cache = torch.nn.Parameter(floats(3, 4, seed=1), requires_grad=False)
        self.body = body

    def forward(self, x: torch.Tensor) -> Any:
        return self.body(self.cache, x)


def _cond(cache: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return torch.cond(x.sum() > 0, lambda a, b: a.sin() + b, lambda a, b: a.cos() - b, (x, cache))


def _while(cache: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    def body(step: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return step + 1, value * 0.5 + cache

    return while_loop(lambda step, value: step < 5, body, (torch.zeros((), dtype=torch.int32), x))


def _scan(cache: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    def step(carry: torch.Tensor, row: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        total = carry + row.sin()
        return total, total * 2

    return scan(step, cache[0], x)


@pytest.mark.parametrize("frontend", ["make_fx", "dynamo"])
@pytest.mark.parametrize(("body", "op"), [(_cond, "cond"), (_while, "while_loop"), (_scan, "scan")])
def test_a_region_equals_torch(body: Callable[..., Any], op: str, frontend: str) -> None:
    graph = capture(Region(body), (X,), frontend=frontend)
    assert any(str(node.target) == op for node in graph.graph.nodes)
    for value in (X, -X):
        expected = Region(body)(value)
        for ours, theirs in zip(
            execute(graph, (value,)).outputs, torch.utils._pytree.tree_leaves(expected), strict=True
        ):
            torch.testing.assert_close(ours, theirs.to(ours.dtype), rtol=1e-5, atol=1e-5)


def nested(op: str) -> GraphModule:
    """A graph that calls one subgraph twice, as a module or through invoke_subgraph."""
    inner = Graph()
    a, b = inner.placeholder("a"), inner.placeholder("b")
    inner.output((inner.call_function(aten.mul.Tensor, (a, b)), a))
    root = torch.nn.Module()
    root.region = GraphModule(torch.nn.Module(), inner)
    root.cache = torch.nn.Parameter(floats(3, 4, seed=1), requires_grad=False)
    outer = Graph()
    value, cache = outer.placeholder("x"), outer.get_attr("cache")
    region = outer.get_attr("region") if op == "invoke_subgraph" else None
    for _ in range(2):
        if region is None:
            pair = outer.call_module("region", (value, cache))
        else:
            pair = outer.call_function(higher_order.invoke_subgraph, (region, "region", value, cache))
        value = outer.call_function(torch.ops.aten.neg.default, (outer.call_function(getitem, (pair, 0)),))
    outer.output((value,))
    return GraphModule(root, outer)


@pytest.mark.parametrize("op", ["call_module", "invoke_subgraph"])
def test_a_subgraph_is_written_in_place_of_each_call(op: str) -> None:
    graph = nested(op)
    (output,) = execute(graph, (X,)).outputs
    torch.testing.assert_close(output, X * graph.cache.detach() ** 2, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("by_position", "by_name"), [((), ("x", "y", "scale")), (("x",), ("y",)), ((), ("y", "x")), (("x", "y"), ())]
)
def test_a_submodule_may_be_given_its_inputs_by_name(by_position: tuple[str, ...], by_name: tuple[str, ...]) -> None:
    inner = Graph()
    x, y, scale = inner.placeholder("x"), inner.placeholder("y"), inner.placeholder("scale", default_value=2.0)
    inner.output((inner.call_function(aten.sub.Tensor, (x, inner.call_function(aten.mul.Tensor, (y, scale)))),))
    root = torch.nn.Module()
    root.region = GraphModule(torch.nn.Module(), inner)
    outer = Graph()
    values = {"x": outer.placeholder("one"), "y": outer.placeholder("other"), "scale": 3.0}
    args, kwargs = tuple(values[name] for name in by_position), {name: values[name] for name in by_name}
    outer.output((outer.call_function(getitem, (outer.call_module("region", args, kwargs), 0)),))
    expected = X - X.cos() * (3.0 if "scale" in by_name else 2.0)
    torch.testing.assert_close(execute(GraphModule(root, outer), (X, X.cos())).outputs[0], expected)


def test_a_constant_predicate_takes_one_branch() -> None:
    root = torch.nn.Module()
    for name, op in (("then", aten.sin.default), ("otherwise", aten.cos.default)):
        branch = Graph()
        branch.output((branch.call_function(op, (branch.placeholder("x"),)),))
        setattr(root, name, GraphModule(torch.nn.Module(), branch))
    graph = Graph()
    x, branches = graph.placeholder("x"), [graph.get_attr(name) for name in ("then", "otherwise")]
    result = graph.call_function(higher_order.cond, (False, *branches, (x,)))
    graph.output((graph.call_function(getitem, (result, 0)),))
    torch.testing.assert_close(execute(GraphModule(root, graph), (X,)).outputs[0], X.cos())


WRITES: dict[str, Callable[..., Any]] = {
    "whole": lambda op: lambda cache, x: (op(x, cache), cache * 2),
    "reshaped": lambda op: lambda cache, x: (op(x.reshape(-1), cache.view(-1)), cache * 2),
    "slice": lambda op: lambda cache, x: (op(x[:2], cache[1:]), cache * 2),
    "twice": lambda op: lambda cache, x: (op(x, cache) + op(x + 1, cache), cache * 2),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_write_by_a_custom_op_becomes_a_value(name: str, write_op: Any) -> None:
    body = WRITES[name](write_op)
    program = load_program(torch.fx.symbolic_trace(Region(body)), {"x": X}, context())
    eager = Region(body)
    expected = eager(X)
    values = {"x": X.numpy(), "cache": floats(3, 4, seed=1).numpy()}
    outputs, written = jax.jit(lambda v: program.run(v, context()))(values)
    for ours, theirs in zip([*outputs, written["cache"]], [*expected, eager.cache.detach()], strict=True):
        torch.testing.assert_close(torch.from_numpy(jax.device_get(ours).copy()), theirs, rtol=1e-5, atol=1e-5)


def test_a_write_through_a_strided_view_is_refused(write_op: Any) -> None:
    graph = torch.fx.symbolic_trace(Region(lambda cache, x: write_op(x.t(), cache.t())))
    program = load_program(graph, {"x": X}, context())
    with pytest.raises(
        DeadkvError, match=r"auto_functionalized_v2 \(node .*\) cannot be written as HLO: it writes a view"
    ):
        lower(program, program.entries, {}, context())


@pytest.mark.parametrize("name", ["whole", "slice"])
def test_on_a_target_with_the_kernel_the_write_is_a_custom_call(name: str, write_op: Any) -> None:
    graph = torch.fx.symbolic_trace(Region(WRITES[name](write_op)))
    program = load_program(graph, {"x": X}, context("trn2"))
    lowered = lower(program, program.entries, {}, context("trn2"))
    assert lowered.stablehlo.count("stablehlo.custom_call @AwsNeuronCustomNativeKernel") == 1
    assert "output_tuple_indices = [1], operand_index = 1" in lowered.stablehlo
    assert lowered.parameters[1].alias == 2


def test_both_functional_forms_of_a_write_are_lowered(write_op: Any) -> None:
    graph = Graph()
    x, cache = graph.placeholder("x"), graph.placeholder("cache")
    call = graph.call_function(higher_order.auto_functionalized, (write_op,), {"x": x, "cache": cache})
    graph.output(tuple(graph.call_function(getitem, (call, i)) for i in range(2)))
    module = GraphModule(torch.nn.Module(), graph)
    program = load_program(module, {"x": X, "cache": X}, context())
    assert not program.retraced
    (total, new), _ = jax.jit(lambda v: program.run(v, context()))({"x": X.numpy(), "cache": X.numpy()})
    torch.testing.assert_close(torch.from_numpy(jax.device_get(new).copy()), X * 2)
    assert float(total) == pytest.approx(float(X.sum()), rel=1e-5)
