"""Graph files that nobody should trust: valid ones, ways to damage them, and everything that is done with a file."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st

import tracing.decoder.contract  # noqa: F401  (the command line registers its operator too)
from passes import PrunePrefixCache, verify_prune
from passes.errors import DeadkvError, PruneVerificationError
from tests.support.builder import GraphBuilder, decode_graph
from tests.support.regions import RegionBuilder
from tracing.graph import (
    GraphDoc,
    diff,
    document,
    dumps,
    graph_module,
    paired_modules,
    render_dot,
    render_html,
    render_text,
    text,
)
from tracing.graph.jsonfile import loads

aten = torch.ops.aten
LIVENESS = PrunePrefixCache(policy="liveness")
POOL = "kv_mgr.past_key_values.0"


def _uses() -> torch.fx.GraphModule:
    """A site that is read for its shape, written to, asserted on and returned."""
    build = GraphBuilder()
    x = build.input("x", 3, 2, 16, 8)
    pool, table = build.parameter(POOL, 10, 4, 2, 8), build.input("active_block_table", 3, 4, dtype=torch.int32)
    dead, live = build.site(pool, table), build.site(pool, table)
    zeros = build.call(aten.zeros_like.default, dead)
    build.call(aten._assert_tensor_metadata.default, dead, None, None, torch.float32)
    build.call(aten.copy_.default, dead, x)
    size = build.call(aten.sym_size.int, dead, 1)
    build.call(aten.copy_.default, pool, build.call(aten.mul.Tensor, pool, 2))
    return build.module(build.call(aten.add.Tensor, x, zeros), build.call(aten.mul.Tensor, live, size))


def _nested() -> torch.fx.GraphModule:
    """A site that is handed to a region and to both branches of a `cond`, which do not read it."""
    build = RegionBuilder()
    x = build.input("x", 3, 2, 16, 8)
    flag = build.input("flag", dtype=torch.bool)
    table = build.input("active_block_table", 3, 4, dtype=torch.int32)
    dead = build.site(build.parameter(POOL, 10, 4, 2, 8), table)
    for path, op in (("region", aten.mul.Tensor), ("true_graph", aten.add.Tensor), ("false_graph", aten.sub.Tensor)):
        body = build.nested()
        value, _ = body.input("value", 3, 2, 16, 8), body.input("prior", 3, 2, 16, 8)
        build.body(path, body.module(body.call(op, value, 2)))
    chosen = build.item(build.cond(flag, "true_graph", "false_graph", x, dead), 0)
    return build.module(build.item(build.invoke(build.graph_of("region"), "r0", chosen, dead), 0))


@lru_cache(maxsize=1)
def valid() -> tuple[str, ...]:
    """Valid graph files: small ones, with sites, nested graphs, symbols and operators of others."""
    docs = (Path(__file__).parents[2] / "docs" / "graph-format.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```json\n(.*?)```", docs, re.DOTALL)
    return *(dumps(document(build())) for build in (decode_graph, _uses, _nested)), example


def use(content: bytes | str) -> str:
    """Does with a file all that deadkv does with one, and says how far it came: refused, unbuilt, unverified, used.

    Only a DeadkvError of one printable line may come out of any step.
    """
    try:
        doc = loads(content)
    except DeadkvError as error:
        assert_one_line(error)
        return "refused"
    assert loads(dumps(doc)) == doc
    assert_printable(text(doc, source=True) + dumps(doc))
    _compare(doc, _known())
    _compare(_known(), doc)
    return "used" if _accepts(_explain, doc) and _accepts(_verify, doc) else "refused later"


def _accepts(step: Callable[[GraphDoc], None], doc: GraphDoc) -> bool:
    try:
        step(doc)
    except DeadkvError as error:
        assert_one_line(error)
        return False
    return True


@lru_cache(maxsize=1)
def _known() -> GraphDoc:
    return loads(valid()[1])


def _compare(before: GraphDoc, after: GraphDoc) -> None:
    found = diff(before, after)
    shown = render_text(found, color=False), render_dot(found), render_html(found, before, after)
    assert_printable("".join(shown))
    json.dumps(found.to_dict(), allow_nan=False)


def _explain(doc: GraphDoc) -> None:
    module = graph_module(doc)
    dumps(document(module))
    json.dumps(LIVENESS.explain(module).to_dict(), allow_nan=False)


def _verify(doc: GraphDoc) -> None:
    modules = paired_modules(_known(), doc)
    try:
        verify_prune(*modules)
    except PruneVerificationError as error:
        assert_one_line(error)


def assert_one_line(error: DeadkvError) -> None:
    """One line that a terminal shows as it is, of readable length."""
    assert str(error).isprintable() and len(str(error)) < 1000, str(error)[:2000]


def assert_printable(shown: str) -> None:
    """Nothing but lines of printable characters."""
    assert shown.replace("\n", "").isprintable(), [c for c in shown if c != "\n" and not c.isprintable()]


NAMES = (
    "", "x", "a.b", "lambda", "print", "self", "__class__", "__import__('os').system('true')", "../../etc/passwd",
    "$(id)", "x; rm -rf /", "<script>alert(1)</script>", "&#x202e;", "\x1b[2J", "\u202etxt", "\x7f", "\u2028", "é",
    "名", "\ud800", "a" * 2000, "1" * 500, '"\n\')', "placeholder", "get_attr", "call_function", "call_method",
)  # fmt: skip
EXPRESSIONS = (
    "s0", "s0 + s1", "2**70", "9**9**9", "FloorDiv(s0, 0)", "u0", "Max(s0, s1, 3)", "Eq(s0, 1)", "zf0", "1.5",
    "s0 # s1", "(s0 + s1 + s2 + s3 + s4)**64", "1e308*1e308", "s0**s1**s2", "Mod(s0, 3)//(s1 + 1)", "-s0", "s0 - s0",
)  # fmt: skip
TYPES = ("float32", "bfloat16", "bool", "quint4x2", "complex64", "float4_e2m1fn_x2", "cuda:0", "meta", "strided")
SCHEMAS = (
    "a::b(int[999999999] x=1) -> ()", "a::b(" + "(" * 5000, "a::b(int x=99999999999999999999) -> ()",
    "a::b(Tensor(a!) x, *, str y='\x1b') -> Tensor(a!)",
)  # fmt: skip
TARGETS = (
    "aten.add.Tensor", "aten.view.default", "aten.index_select.default", "aten.permute.default", "aten.copy_.default",
    "aten.index_put_.default", "aten.sym_size.int", "aten.gather.default", "aten.index.Tensor", "aten.expand.default",
    "aten.empty.memory_format", "aten.rand.default", "aten.zeros_like.default", "aten.new_zeros.default",
    "aten.slice.Tensor", "aten.detach.default", "aten.clone.default", "aten._to_copy.default", "aten.item.default",
    "aten.split.Tensor", "aten.add_.Tensor", "aten._assert_tensor_metadata.default", "aten.embedding.default",
    "operator.getitem", "operator.mul", "operator.add", "operator.setitem", "builtins.getattr", "torch.permute",
    "torch.reshape", "torch.numel", "torch.nn.functional.embedding", "torch.sym_int", "torch._assert", "math.floor",
    "hop.cond", "hop.while_loop", "hop.scan", "hop.invoke_subgraph", "deadkv.attention_block_tkg.default",
    "other.attention_block_tkg.default", "os.system", "builtins.eval", "torch.load", "prim.device.default",
    "Tensor.add_", "Tensor.size", "Tensor.shape", "Tensor.item", "Tensor.view", "Tensor.copy_", "Tensor.index_select",
    "Tensor.to", "Tensor.expand_as", "Tensor.__setitem__", "Tensor.nothing", "module:region", "module:true_graph",
)  # fmt: skip
TEXTS = (*NAMES, *EXPRESSIONS, *TYPES, *SCHEMAS, *TARGETS)
NUMBERS = (0, 1, -1, 2, 3, 7, 16, 2**31, 2**62, 2**63, -(2**63) - 1, 2**64, 2**200, 10**4000, 1e308, -0.0, 0.5)
TAGS = (
    "node", "tuple", "slice", "range", "dict", "float", "int", "complex", "dtype", "layout", "memory_format", "device",
    "sym", "ellipsis", "object", "str", "bool", "none", "pickle",
)  # fmt: skip
leaves = st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.sampled_from(TEXTS) | st.text(max_size=5)
free_json = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(TAGS), inner, max_size=2),
    max_leaves=6,
)  # fmt: skip
Place = tuple[Any, Any]  # a list or dict of a JSON document, and the index or key of one of its parts


def places(found: Any) -> Iterator[Place]:
    """Every part of a JSON document."""
    keys = list(found) if isinstance(found, dict) else range(len(found)) if isinstance(found, list) else ()
    for key in keys:
        yield found, key
        yield from places(found[key])


def _replace(draw: st.DrawFn, place: Place) -> None:
    place[0][place[1]] = draw(free_json)


def _drop(draw: st.DrawFn, place: Place) -> None:
    del place[0][place[1]]


def _double(draw: st.DrawFn, place: Place) -> None:
    holder, key = place
    if isinstance(holder, list):
        holder.insert(draw(st.integers(0, len(holder))), copy.deepcopy(holder[key]))
    else:
        holder[draw(st.sampled_from(TEXTS))] = copy.deepcopy(holder[key])


def _retag(draw: st.DrawFn, place: Place) -> None:
    place[0][place[1]] = {draw(st.sampled_from(TAGS)): place[0][place[1]]}


def _deepen(draw: st.DrawFn, place: Place) -> None:
    holder, key = place
    wrap = draw(st.sampled_from([lambda v: [v], lambda v: {"tuple": [v]}, lambda v: {"dict": [[1, v]]}]))
    for _ in range(draw(st.sampled_from([1, 2, 31, 33, 60]))):
        holder[key] = wrap(holder[key])


def _graft(draw: st.DrawFn, place: Place) -> None:
    """Puts a part of a valid file, of the same type where there is one, in the place of another."""
    found = [part[key] for part, key in places(json.loads(draw(st.sampled_from(valid()))))]
    alike = [part for part in found if type(part) is type(place[0][place[1]])]
    place[0][place[1]] = draw(st.sampled_from(alike or found))


def _exchange(draw: st.DrawFn, place: Place) -> None:
    holder, key = place
    other = draw(st.sampled_from(list(holder) if isinstance(holder, dict) else range(len(holder))))
    holder[key], holder[other] = holder[other], holder[key]


def _rewire(draw: st.DrawFn, place: Place) -> None:
    """Has a node call something else, or a reference read another node."""
    place[0][place[1]] = (
        draw(st.sampled_from(TARGETS)) if place[1] == "target" else {"node": draw(st.sampled_from(READ))}
    )


def _is_wire(place: Place) -> bool:
    found = place[0][place[1]]
    return place[1] == "target" or (isinstance(found, dict) and "node" in found)


READ = (
    "x",
    "permute",
    "view",
    "index_select",
    "active_block_table",
    "kv_mgr_past_key_values_0",
    "value",
    "cond",
    "mul",
)
CHANGES = (_replace, _drop, _double, _retag, _deepen, _graft, _graft, _exchange, _exchange, _rewire, _rewire, _rewire)


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """A valid file with up to three parts replaced, dropped, doubled, retagged, deepened, grafted or exchanged."""
    found = json.loads(draw(st.sampled_from(valid())))
    for _ in range(draw(st.integers(1, 3))):
        change = draw(st.sampled_from(CHANGES))
        fitting = [place for place in places(found) if change is not _rewire or _is_wire(place)]
        if fitting:
            change(draw, draw(st.sampled_from(fitting)))
    return json.dumps(found)


@st.composite
def damaged_bytes(draw: st.DrawFn) -> bytes:
    """A valid file with bytes overwritten, inserted, cut out or cut off."""
    content = bytearray(draw(st.sampled_from(valid())).encode())
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.sampled_from([start, start + 1, start + 7, len(content)]))
        content[start:end] = draw(
            st.binary(max_size=4) | st.sampled_from([b'"', b"{}", b"[" * 5000, b"1" * 5000, b",", b"\x00"])
        )
    return bytes(content)
