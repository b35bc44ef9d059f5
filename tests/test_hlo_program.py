"""Graphs of every level on their way to HLO: taken as they are, made functional first, or refused by name."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.fx import GraphModule, symbolic_trace
from torch.fx.experimental.proxy_tensor import make_fx

from passes.errors import DeadkvError
from tests.support.lowering import floats
from tracing.backends.base import BackendRequest
from tracing.backends.hlo.artefacts import lower_request
from tracing.backends.hlo.context import LoweringContext
from tracing.backends.hlo.execute import execute
from tracing.backends.hlo.lower import Lowered
from tracing.backends.hlo.program import load_program
from tracing.backends.hlo.proto import alias_pairs, parse_module
from tracing.backends.targets import get_target

CONTEXT = LoweringContext(get_target("inf2"))
X, INDEX = floats(3, 4), torch.tensor([2, 0])

torch.library.define("deadkv_test::scale_", "(Tensor(a!) x, float by) -> ()")
torch.library.impl("deadkv_test::scale_", "CompositeExplicitAutograd", lambda x, by: x.mul_(by) and None)
torch.library.register_fake("deadkv_test::scale_", lambda x, by: None)


class Pooled(torch.nn.Module):
    """A module around one cache whose body is given."""

    def __init__(self, body: Callable[..., Any]) -> None:
        super().__init__()
        self.pool = torch.nn.Parameter(floats(5, 4, seed=1), requires_grad=False)
        self.body = body

    def forward(self, x: torch.Tensor, index: torch.Tensor) -> Any:
        return self.body(self.pool, x, index)


def torch_level(body: Callable[..., Any]) -> GraphModule:
    return symbolic_trace(Pooled(body))


def lower_one(graph: GraphModule, inputs: tuple[Any, ...], aliases: tuple[tuple[str, int], ...] = ()) -> Lowered:
    from pathlib import Path

    return lower_request(BackendRequest(graph, graph, inputs, aliases, "inf2", Path()))["after"]


def _views_and_methods(pool: Any, x: Any, index: Any) -> Any:
    return torch.nn.functional.layer_norm(x[:, 1:].reshape(-1, 3), [3]).unsqueeze(0) + pool[index, 1:].mean()


def _write_by_method(pool: Any, x: Any, index: Any) -> Any:
    pool.index_put_((index,), x[:2])
    return pool.sum(0)


def _write_through_a_view(pool: Any, x: Any, index: Any) -> Any:
    pool.view(-1)[2:6].mul_(3)
    return pool * 2, x.reshape(-1)[index]


def _dead_store(pool: Any, x: Any, index: Any) -> Any:
    pool.index_select(0, index).mul_(7)
    return x + 1


def _write_an_input(pool: Any, x: Any, index: Any) -> Any:
    x.add_(pool[:3])
    return x.sum()


@pytest.mark.parametrize(
    ("body", "written"),
    [
        (_views_and_methods, []),
        (_write_by_method, ["pool"]),
        (_write_through_a_view, ["pool"]),
        (_dead_store, []),
        (_write_an_input, ["x"]),
    ],
)
def test_a_torch_level_graph_is_made_functional(body: Callable[..., Any], written: list[str]) -> None:
    graph = torch_level(body)
    inputs = (X.clone(), INDEX)
    result = execute(graph, inputs)
    assert torch.equal(inputs[0], X)
    expected = graph(*inputs)
    for ours, theirs in zip(result.outputs, expected if isinstance(expected, tuple) else [expected], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert list(result.written) == written
    now = {"pool": graph.pool, "x": inputs[0]}
    for name, value in result.written.items():
        torch.testing.assert_close(value, now[name].detach(), rtol=1e-5, atol=1e-5)


def test_a_tensor_written_in_place_becomes_an_aliased_output() -> None:
    lowered = lower_one(torch_level(_write_by_method), (X, INDEX))
    assert [shape for shape, _ in lowered.outputs] == [(4,), (5, 4)]
    assert [(p.name, p.alias) for p in lowered.parameters] == [("x", None), ("index", None), ("pool", 1)]
    assert alias_pairs(parse_module(lowered.hlo)) == {2: 1}


def test_dead_code_outlives_the_functional_trace() -> None:
    lowered = lower_one(torch_level(_dead_store), (X, INDEX))
    assert lowered.stablehlo.count('"stablehlo.gather"(') == 1


def test_a_functional_aten_graph_is_taken_as_it_is() -> None:
    graph = make_fx(lambda x, i: torch.ops.aten.index_select.default(x, 0, i).neg())(X, INDEX)
    program = load_program(graph, {"x_1": X, "i_1": INDEX}, CONTEXT)
    assert not program.retraced
    assert program.graph is graph


@pytest.mark.parametrize(
    "body",
    [_views_and_methods, _write_by_method, lambda pool, x, i: torch.nn.functional.linear(x, pool)],
    ids=["getitem", "in_place", "composite"],
)
def test_any_other_graph_is_traced_again(body: Callable[..., Any]) -> None:
    assert load_program(torch_level(body), {"x": X, "index": INDEX}, CONTEXT).retraced


def test_64_bit_results_come_back_as_torch_has_them() -> None:
    graph = make_fx(lambda x: (x.argmax(-1), x.to(torch.float64).sum()))(X)
    result = execute(graph, (X,))
    assert [tensor.dtype for tensor in result.outputs] == [torch.int64, torch.float64]
    assert torch.equal(result.outputs[0], X.argmax(-1))


@pytest.mark.parametrize("level", [symbolic_trace, lambda f: make_fx(f)(X)], ids=["torch", "aten"])
def test_an_unknown_op_is_refused_by_name_and_node(level: Callable[..., GraphModule]) -> None:
    def body(x: Any) -> Any:
        return torch.ops.aten.digamma.default(x + 1)

    with pytest.raises(DeadkvError, match=r"aten\.digamma\.default \(node digamma(_default)?\) has no HLO lowering"):
        execute(level(body), (X,))


def test_an_op_whose_result_has_no_fixed_shape_is_refused_by_name_and_node() -> None:
    graph = torch_level(lambda pool, x, i: torch.ops.aten.nonzero.default(x))
    with pytest.raises(DeadkvError, match=r"aten\.nonzero\.default \(node nonzero_default\) has no HLO lowering"):
        execute(graph, (X, INDEX))


def test_a_custom_op_that_writes_is_refused_by_name() -> None:
    graph = torch_level(lambda pool, x, i: (torch.ops.deadkv_test.scale_(pool, 2.0), x)[1])
    with pytest.raises(DeadkvError, match=r"deadkv_test\.scale_"):
        execute(graph, (X, INDEX))


def test_a_use_that_hlo_cannot_say_names_the_node() -> None:
    graph = make_fx(lambda x, mask: torch.ops.aten.index_put.default(x, [mask], torch.ones(())))(X, X > 0)
    with pytest.raises(
        DeadkvError, match=r"aten\.index_put\.default \(node index_put\) cannot be written as HLO: a mask"
    ):
        execute(graph, (X, X > 0))


def _plus_a_constant(x: torch.Tensor) -> torch.Tensor:
    return x + torch.tensor([1.0, 2.0, 3.0, 4.0])


def test_a_constant_made_inside_the_graph_is_a_literal() -> None:
    graph = torch.fx.Graph()
    graph.output(graph.call_function(_plus_a_constant, (graph.placeholder("x"),)))
    module = GraphModule(torch.nn.Module(), graph)
    assert [p.name for p in lower_one(module, (X,)).parameters] == ["x"]
    torch.testing.assert_close(execute(module, (X,)).outputs[0], _plus_a_constant(X))


def test_a_constant_that_the_module_holds_is_a_parameter() -> None:
    graph = make_fx(_plus_a_constant)(X)
    assert [p.name for p in lower_one(graph, (X,)).parameters] == ["x_1", "_tensor_constant0"]


def test_a_leaf_module_is_traced_through_and_its_weights_are_parameters() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.GELU())
    graph = symbolic_trace(model)
    assert [p.name for p in lower_one(graph, (X,)).parameters] == ["input", "0.bias", "0.weight"]
    torch.testing.assert_close(execute(graph, (X,)).outputs[0], model(X).detach(), rtol=1e-5, atol=1e-5)


def test_tied_parameters_are_one_entry() -> None:
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.b = torch.nn.Parameter(floats(4, 4))
            self.a = self.b

        def forward(self, x: Any) -> Any:
            return torch.mm(x, self.a) + torch.mm(x, self.b)

    lowered = lower_one(symbolic_trace(Tied()), (X,))
    assert [p.name for p in lowered.parameters] == ["x", "b"]


def test_a_parameter_that_only_one_graph_uses_is_a_parameter_of_both() -> None:
    from pathlib import Path

    before = torch_level(lambda pool, x, i: (pool.sum(), x)[1])
    after = symbolic_trace(lambda x, index: x * 1)
    lowered = lower_request(BackendRequest(before, after, (X, INDEX), (), "inf2", Path()))
    assert [p.name for p in lowered["before"].parameters] == ["x", "index", "pool"]
    assert [p.name for p in lowered["after"].parameters] == ["x", "index", "pool"]


def test_a_dropped_input_is_missing_from_the_after_module_only() -> None:
    from pathlib import Path

    before, after = (symbolic_trace(f) for f in (lambda x, unused: x + 1, lambda x: x + 1))
    lowered = lower_request(BackendRequest(before, after, (X, INDEX), (), "inf2", Path()))
    assert [p.name for p in lowered["before"].parameters] == ["x", "unused"]
    assert [p.name for p in lowered["after"].parameters] == ["x"]


def test_an_unused_input_that_is_no_tensor_is_no_parameter() -> None:
    lowered = lower_one(symbolic_trace(lambda x, flag, y: x + y), (X, 3, X))
    assert [p.name for p in lowered.parameters] == ["x", "y"]
    traced_again = symbolic_trace(lambda x, flag, y: x - y)
    assert torch.equal(execute(traced_again, (X, None, X)).outputs[0], torch.zeros_like(X))


@pytest.mark.parametrize(
    ("aliases", "message"),
    [
        ((("nothing", 0),), "no input or parameter of that name"),
        ((("pool", 5),), "the graph has 2 outputs"),
        ((("pool", 1),), r"float32\[5, 4\] cannot hold float32\[3, 4\]"),
    ],
)
def test_an_alias_that_does_not_fit_is_refused(aliases: tuple[tuple[str, int], ...], message: str) -> None:
    graph = torch_level(lambda pool, x, i: (pool + 1, x))
    with pytest.raises(DeadkvError, match=message):
        lower_one(graph, (X, INDEX), aliases)


def test_a_tensor_returned_twice_is_aliased_to_its_first_output() -> None:
    graph = torch_level(lambda pool, x, i: (x, pool, pool))
    lowered = lower_one(graph, (X, INDEX), (("pool", 1), ("pool", 2)))
    assert alias_pairs(parse_module(lowered.hlo)) == {2: 1}


@pytest.mark.parametrize(
    ("graph", "inputs", "message"),
    [
        (symbolic_trace(lambda x, y: x + y), (X,), "takes 2 inputs, but 1"),
        (symbolic_trace(lambda x: (x, None)), (X,), "output 1 of the graph is None"),
        (symbolic_trace(lambda x, n: x * n), (X, 3), "input 'n' is 3, not a tensor"),
        (symbolic_trace(lambda x: x.view(7)), (X,), r"view \(node view\) cannot be traced to functional aten"),
        (symbolic_trace(lambda x: x * 2), (X.to(torch.complex64),), "complex64 has no HLO element type"),
        (
            symbolic_trace(lambda x: x[x > 0]),
            (X,),
            r"aten\.index\.Tensor \(node index\) cannot be written as HLO: a mask",
        ),
    ],
)
def test_a_graph_that_cannot_be_lowered_says_why(graph: GraphModule, inputs: tuple[Any, ...], message: str) -> None:
    with pytest.raises(DeadkvError, match=message):
        lower_one(graph, inputs)


def test_an_input_named_as_a_parameter_is_refused() -> None:
    class Clash(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x = torch.nn.Parameter(floats(4))

        def forward(self, x: Any) -> Any:
            return x + self.x

    with pytest.raises(DeadkvError, match="'x' names both an input and a parameter"):
        lower_one(symbolic_trace(Clash()), (X,))


def test_a_symbolic_shape_is_refused() -> None:
    graph = make_fx(lambda x: x + 1, tracing_mode="symbolic")(X)
    (placeholder,) = graph.graph.find_nodes(op="placeholder")
    with pytest.raises(DeadkvError, match=r"input 'x_1' has the symbolic shape"):
        lower_one(graph, (placeholder.meta["val"],))
    assert lower_one(graph, (X,)).outputs == (((3, 4), "float32"),)


def test_integers_beyond_32_bits_are_refused_as_values() -> None:
    graph = make_fx(lambda x: x + 1)(INDEX)
    with pytest.raises(DeadkvError, match="x_1 holds 64-bit integers beyond 32 bits"):
        execute(graph, (torch.tensor([2**31, 0]),))
