"""The graph file: round trip, layout, and one clear error for everything that is not one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from passes.errors import DeadkvError
from tests.support.graph_docs import documents
from tests.support.graphs import decoder
from tracing.graph import diff, document, dumps, load, text
from tracing.graph.document import GraphDoc
from tracing.graph.jsonfile import SCHEMA, loads

SLOW = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(dumps(document(decoder(1, prior="operand"))))
    return found


@SLOW
@given(documents())
def test_round_trip(doc: GraphDoc) -> None:
    content = dumps(doc)
    assert loads(content) == doc
    assert dumps(loads(content)) == content


def test_a_node_takes_one_line() -> None:
    doc = document(decoder(2))
    lines = dumps(doc).splitlines()
    for node in doc.nodes:
        assert sum(f'"name": "{node.name}"' in line for line in lines) == 1
    json.loads(dumps(doc))


def test_load_reads_what_dumps_wrote(tmp_path: Path) -> None:
    doc = document(decoder(2))
    path = tmp_path / "a.graph.json"
    path.write_text(dumps(doc), encoding="utf-8")
    assert load(path) == doc
    assert load(str(path)) == doc


def only_deadkv_errors(content: bytes | str) -> None:
    try:
        loads(content)
    except DeadkvError as error:
        assert "\n" not in str(error)


@SLOW
@given(documents(), st.data())
def test_truncated_files_give_one_line(doc: GraphDoc, data: st.DataObject) -> None:
    content = dumps(doc).rstrip()
    cut = data.draw(st.integers(0, len(content) - 1))
    with pytest.raises(DeadkvError):
        loads(content[:cut])


@SLOW
@given(documents(), st.data())
def test_mutated_bytes_never_give_a_traceback(doc: GraphDoc, data: st.DataObject) -> None:
    content = bytearray(dumps(doc).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    only_deadkv_errors(bytes(content))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@SLOW
@given(documents(), st.data())
def test_replaced_parts_never_give_a_traceback(doc: GraphDoc, data: st.DataObject) -> None:
    found = json.loads(dumps(doc))
    place, key = data.draw(st.sampled_from(list(_places(found))))
    place[key] = data.draw(JSON)
    only_deadkv_errors(json.dumps(found))


def _places(found: Any) -> Any:
    keys = found.keys() if isinstance(found, dict) else range(len(found)) if isinstance(found, list) else ()
    for key in list(keys):
        yield found, key
        yield from _places(found[key])


@SLOW
@given(st.binary(max_size=200) | JSON.map(lambda v: json.dumps(v).encode()))
def test_random_input_never_gives_a_traceback(content: bytes) -> None:
    with pytest.raises(DeadkvError):
        loads(content)


def set_node(index: int, **parts: Any) -> Any:
    return lambda found: found["nodes"][index].update(parts)


def rename(found: dict[str, Any]) -> None:
    found["nodes"][1]["name"] = found["nodes"][0]["name"]


def reverse(found: dict[str, Any]) -> None:
    found["nodes"][-2:-1], found["nodes"][:1] = found["nodes"][:1], found["nodes"][-2:-1]


def drop_parameters(found: dict[str, Any]) -> None:
    found["parameters"] = []


def nest(found: dict[str, Any]) -> None:
    value: Any = 1
    for _ in range(40):
        value = [value]
    found["nodes"][5]["args"] = [value]


BROKEN = {
    "future schema": (lambda f: f.update(schema="deadkv.graph/2"), r"schema is 'deadkv.graph/2'; this deadkv reads"),
    "no schema": (lambda f: f.pop("schema"), "not a deadkv graph"),
    "unknown key": (lambda f: f.update(extra=1), "graph: unknown key 'extra'"),
    "missing key": (lambda f: f.pop("nodes"), "the key 'nodes' is missing"),
    "wrong type": (lambda f: f.update(nodes={}), "graph.nodes: expected an array, found an object"),
    "unknown op": (set_node(3, op="call_evil"), r"nodes\[3\]: op 'call_evil' is not one of"),
    "duplicate name": (rename, r"nodes\[1\]: the name '\w+' is taken"),
    "later reference": (reverse, "which no earlier node is called"),
    "keyword name": (set_node(3, name="lambda"), "cannot be a node name in torch.fx"),
    "builtin name": (set_node(3, name="print"), "cannot be a node name in torch.fx"),
    "code as name": (set_node(3, name="x); import os; (y"), "cannot be a node name in torch.fx"),
    "code as input": (set_node(0, target="x=__import__('os')"), "target .* of a placeholder is not an identifier"),
    "code as method": (set_node(5, op="call_method", target="Tensor.a.b()"), "is not Tensor.METHOD"),
    "code as keyword": (set_node(5, kwargs={"a=evil(), b": 1}), "is not an identifier"),
    "code as size": (set_node(0, type={"dtype": "int32", "shape": ["__import__('os')"]}), "not a symbolic expression"),
    "huge power": (set_node(0, type={"dtype": "int32", "shape": ["9**9**9**9"]}), "not a symbolic expression"),
    "unknown dtype": (set_node(0, type={"dtype": "float7", "shape": []}), "'float7' is not a dtype of torch"),
    "a module as dtype": (set_node(0, type={"dtype": "nn", "shape": []}), "'nn' is not a dtype"),
    "negative size": (set_node(0, type={"dtype": "int32", "shape": [-1]}), "not between 0 and"),
    "rank mismatch": (set_node(0, type={"dtype": "int32", "shape": [1], "stride": []}), "1 sizes but 0 strides"),
    "unknown constant": (set_node(5, args=[{"pickle": "x"}]), "'pickle' is not a kind of constant"),
    "two-key constant": (set_node(5, args=[{"int": "1", "float": "2"}]), "one key, its kind; found 2"),
    "misspelt constant": (set_node(5, args=[{"int": "01"}]), "not how the int 1 is written"),
    "no such parameter": (drop_parameters, "of a get_attr is not a parameter, object or subgraph"),
    "two outputs": (set_node(3, op="output", target="output", args=[1]), "an output node belongs at the end"),
    "deep value": (nest, "nested more than 32 deep"),
    "bad alias": (lambda f: f.update(aliases=[["nothing", 0]]), "neither an input nor a parameter"),
    "bad alias index": (lambda f: f.update(aliases=[["hidden", 9]]), "there is no output 9"),
    "bad source": (set_node(3, source={"at": "/etc/passwd", "code": ""}), "is not FILE:LINE"),
    "bad schema text": (lambda f: f.update(schemas={"a.b": "a::b(oops"}), "is not an operator schema"),
    "a schema for aten": (lambda f: f.update(schemas={"aten.add": "aten::add(Tensor x) -> ()"}), "not the schema"),
    "taken attribute": (lambda f: f["parameters"][0].update(fqn="forward"), "cannot be the path of a module attribute"),
    "surrogate": (set_node(3, target="\ud800"), "half of a surrogate pair"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_say_what_is_wrong_and_where(case: str, plain: dict[str, Any], tmp_path: Path) -> None:
    spoil, message = BROKEN[case]
    found = json.loads(json.dumps(plain))
    spoil(found)
    path = tmp_path / "broken.graph.json"
    path.write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(DeadkvError, match=message) as raised:
        load(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1, column 1: the file ends too early"),
        (b'{"schema": "deadkv.gr', "the file ends too early"),
        (b'{"nodes": tr', "the file ends too early"),
        (b'{"nodes": true,,}', "not JSON"),
        (b"not json", "line 1, column 1: not JSON"),
        (b"\xff\xfe", "not UTF-8 text"),
        (b"[1, 2]", "not a deadkv graph"),
        (b'{"schema": NaN}', "NaN is not JSON"),
        (b'{"a": 1, "a": 2}', "the key 'a' occurs twice"),
        (b"[" * 200_000, "nested too deep"),
        (b"1" * 5000, "an integer with more digits than Python converts"),
    ],
)
def test_what_is_no_json_graph_says_so(content: bytes, message: str) -> None:
    with pytest.raises(DeadkvError, match=message):
        loads(content)


def test_directories_and_missing_files_give_one_line(tmp_path: Path) -> None:
    with pytest.raises(DeadkvError, match=r"is a directory; name the file in it"):
        load(tmp_path)
    with pytest.raises(DeadkvError, match="cannot be read: No such file"):
        load(tmp_path / "missing.graph.json")
    with pytest.raises(DeadkvError, match="cannot be read"):
        load("nul\0byte")


def test_files_beyond_the_size_limit_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.graph.json"
    path.write_text(json.dumps({"schema": SCHEMA}), encoding="utf-8")
    monkeypatch.setattr("tracing.graph.json_input.MAX_BYTES", 10)
    with pytest.raises(DeadkvError, match="has more than 10 bytes"):
        load(path)


DOCS, DIFF_DOCS = (
    (Path(__file__).parents[1] / "docs" / name).read_text(encoding="utf-8") for name in ("graph-format.md", "diff.md")
)


def test_the_documented_example_is_a_graph_and_prints_as_documented() -> None:
    (content,) = re.findall(r"```json\n(.*?)```", DOCS, re.DOTALL)
    (printed,) = re.findall(r"```text\n(.*?)```", DOCS, re.DOTALL)
    doc = loads(content)
    assert dumps(doc) == content
    assert text(doc) == printed


def test_every_key_of_a_diff_is_documented() -> None:
    report = {"summary": {"bytes_after": 8}, "sites": [{"status": "live", "reason": "r"}]}
    found = diff(document(decoder(2, prior="operand")), document(decoder(2, prior="none")), report)
    for key in _keys(found.to_dict()):
        assert f"`{key}`" in DIFF_DOCS, key


def _keys(found: Any) -> set[str]:
    if isinstance(found, dict):
        return found.keys() | {key for value in found.values() for key in _keys(value)}
    return {key for item in found for key in _keys(item)} if isinstance(found, list) else set()
