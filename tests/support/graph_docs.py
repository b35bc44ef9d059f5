"""Hypothesis strategies for graph documents that `check` accepts."""

from __future__ import annotations

import string
from typing import Any

from hypothesis import strategies as st

from tracing.graph.document import (
    Const,
    GraphDoc,
    Group,
    Node,
    Parameter,
    Ref,
    ScalarType,
    Source,
    TensorType,
    Type,
    Value,
)

FUNCTIONS = (
    "aten.add.Tensor",
    "aten.index_select.default",
    "hop.cond",
    "mylib.attention.default",
    "operator.getitem",
    "some.module.<lambda>",
    "torch.nn.functional.linear",
    "torch.permute",
    'quite "hostile"\n\') or evil()',
)
DTYPES = ("float32", "bfloat16", "int32", "bool", "float8_e4m3fn")
EXPRESSIONS = ("s0", "s1", "2*s0", "s0 + s1 - 1", "(s0//2)", "Mod(s1, 3)", "Max(2, u0)")
TEXT = st.text(max_size=12)

floats = st.floats() | st.sampled_from((0.0, -0.0, 1e300))
constants: st.SearchStrategy[Const] = st.one_of(
    st.just(Const("none", "None")),
    st.booleans().map(lambda v: Const("bool", str(v))),
    st.integers(-(2**70), 2**70).map(lambda v: Const("int", str(v))),
    floats.map(lambda v: Const("float", repr(v))),
    st.complex_numbers(allow_nan=False, max_magnitude=1e9).map(lambda v: Const("complex", str(v))),
    TEXT.map(lambda v: Const("str", v)),
    st.sampled_from(DTYPES).map(lambda v: Const("dtype", v)),
    st.sampled_from(("cpu", "cuda:1", "meta")).map(lambda v: Const("device", v)),
    st.just(Const("layout", "strided")),
    st.just(Const("memory_format", "channels_last")),
    st.just(Const("ellipsis", "...")),
    st.sampled_from(EXPRESSIONS).map(lambda v: Const("sym", v)),
    st.sampled_from(FUNCTIONS).map(lambda v: Const("object", v)),
)


def _containers(items: st.SearchStrategy[Value]) -> st.SearchStrategy[Value]:
    pairs = st.dictionaries(constants, items, max_size=3).map(
        lambda d: Group("dict", tuple(part for pair in d.items() for part in pair))
    )
    return st.one_of(
        st.lists(items, max_size=4).map(lambda v: Group("list", tuple(v))),
        st.lists(items, max_size=4).map(lambda v: Group("tuple", tuple(v))),
        st.tuples(items, items, items).map(lambda v: Group("slice", v)),
        pairs,
    )


def arguments(names: list[str]) -> st.SearchStrategy[Value]:
    """Argument values over the nodes called `names`."""
    plain: st.SearchStrategy[Value] = constants
    leaf = plain | st.sampled_from(names).map(Ref) if names else plain
    return st.recursive(leaf, _containers, max_leaves=6)


dims = st.integers(0, 2**15) | st.sampled_from(EXPRESSIONS)


@st.composite
def tensor_types(draw: st.DrawFn, dims: st.SearchStrategy[Any] = dims) -> TensorType:
    shape = tuple(draw(st.lists(dims, max_size=4)))
    strides = st.lists(dims, min_size=len(shape), max_size=len(shape)).map(tuple)
    return TensorType(draw(st.sampled_from(DTYPES)), shape, draw(st.none() | strides))


scalars = st.one_of(
    st.integers(-9, 9).map(lambda v: ScalarType("int", str(v))),
    floats.map(lambda v: ScalarType("float", repr(v))),
    st.sampled_from(EXPRESSIONS).map(lambda v: ScalarType("int", v)),
    st.sampled_from(("Eq(s0, 4)", "s0 < 3")).map(lambda v: ScalarType("bool", v)),
)
types: st.SearchStrategy[Type | None] = st.recursive(
    st.one_of(st.none(), tensor_types(), scalars), lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4
)
sources = st.none() | st.builds(
    Source, st.sampled_from(("llama.py:12", "a b.py:3")), st.text(string.printable.replace("\n", ""), max_size=20)
)
names = st.from_regex(r"[a-z]{1,3}_[0-9]{1,3}", fullmatch=True)


@st.composite
def _call(draw: st.DrawFn, name: str, earlier: list[str], paths: list[str]) -> Node:
    op = draw(
        st.sampled_from(("call_function", "call_method", "get_attr") if earlier else ("call_function", "get_attr"))
    )
    if op == "get_attr" and paths:
        return Node(name, op, draw(st.sampled_from(paths)), type=draw(types), source=draw(sources))
    value = arguments(earlier)
    first = st.sampled_from(earlier).map(Ref) if op == "call_method" else value
    args = (draw(first), *draw(st.lists(value, max_size=2)))
    kwargs = tuple(sorted(draw(st.dictionaries(names, value, max_size=2)).items()))
    target = draw(st.sampled_from(("Tensor.copy_", "Tensor.permute") if op == "call_method" else FUNCTIONS))
    return Node(
        name,
        "call_method" if op == "call_method" else "call_function",
        target,
        args,
        kwargs,
        draw(types),
        draw(sources),
    )


@st.composite
def documents(draw: st.DrawFn, depth: int = 1) -> GraphDoc:
    """Documents with inputs, parameters, calls of every kind and, to `depth`, nested graphs."""
    fqns = draw(st.lists(st.sampled_from(("a", "b.c", "b.d", "layers.2.w", "layers.10.w")), unique=True))
    numbers = tensor_types(st.integers(0, 2**15))
    parameters = tuple(Parameter(fqn, draw(numbers)) for fqn in sorted(fqns))
    graphs = tuple((f"graph_{i}", draw(documents(depth - 1))) for i in range(draw(st.integers(0, depth))))
    node_names = draw(st.lists(names, min_size=1, max_size=7, unique=True))
    inputs = draw(st.integers(0, len(node_names)))
    nodes: list[Node] = []
    for index, name in enumerate(node_names):
        earlier = node_names[:index]
        if index < inputs:
            nodes.append(Node(name, "placeholder", f"in_{index}", type=draw(types)))
        else:
            nodes.append(draw(_call(name, earlier, [*fqns, *(path for path, _ in graphs)])))
    nodes.append(Node("output", "output", "output", (draw(arguments(node_names)),)))
    aliases = tuple((fqn, 0) for fqn in fqns[:1]) if _outputs(nodes[-1]) else ()
    return GraphDoc("Model", tuple(nodes), parameters, aliases, subgraphs=graphs)


def _outputs(output: Node) -> int:
    value = output.args[0]
    return len(value.items) if isinstance(value, Group) and value.kind in ("tuple", "list") else 1
