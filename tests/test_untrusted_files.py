"""Graph files and reports that nobody should trust: limits, and what a name may do to what shows it.

Schemas here crashed the process or took gigabytes, expressions never ended, reports ended in a traceback, and control
characters reached the terminal, before they were refused or escaped.
"""

from __future__ import annotations

import json
import os
import threading
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from passes.errors import DeadkvError
from tests.support.commands import Run
from tests.support.hostile import assert_one_line, assert_printable, use, valid
from tracing.cli.terminal import print_table, stdout
from tracing.graph import diff, dumps, graph_module, load, render_dot, render_html, render_text, text
from tracing.graph.json_input import parse_json
from tracing.graph.jsonfile import loads
from tracing.graph.symbols import parse
from tracing.graph.targets import parse_schema

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def plain() -> dict[str, Any]:
    """A decode graph with two sites."""
    found: dict[str, Any] = json.loads(valid()[1])
    return found


def node(which: str, /, **parts: Any) -> Change:
    """A change of the node called `which`."""
    return lambda found: next(n for n in found["nodes"] if n["name"] == which).update(parts)


def shape(*dims: Any) -> Change:
    return node("x", type={"dtype": "float32", "shape": list(dims)})


def refused(found: object) -> str:
    """The one line with which a file of this content is refused."""
    with pytest.raises(DeadkvError) as raised:
        graph_module(loads(json.dumps(found)))
    assert_one_line(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    "schema",
    [
        "a::b(" + "(" * 100_000,
        "a::b(Tensor" + "[]" * 100_000 + " x) -> ()",
        "a::b(" + "Dict(int, " * 9000 + "int" + ")" * 9000 + " x) -> ()",
        "a::b() -> " + "(" * 5000 + ")" * 5000,
        "a::b(int[ 999999999] x=1) -> ()",
        "a::b(int x=99999999999999999999) -> ()",
        "a::b(float x=1e99999) -> ()",
        "a::b(int[99999999999999999999] x=1) -> ()",
    ],
    ids=lambda schema: schema[:24],
)
def test_a_schema_that_harms_the_parser_of_torch_is_no_schema(schema: str, plain: dict[str, Any]) -> None:
    assert parse_schema(schema) is None
    plain["schemas"] = {"a.b": schema}
    assert "is not an operator schema" in refused(plain) or "characters; the limit is" in refused(plain)


@pytest.mark.parametrize(
    "expression",
    [
        "s0 # \x1b[2J", "s0\u2028", "\x0cs0", "s0\n", "s٣", "'s0'", "9**9**9", "64**64**64", "s0**s1**s2",
        "PowByNatural(s0, PowByNatural(s1, s2))", "((s0**60)**60)**60", "*".join(["(s0 + s1 + s2)"] * 12),
        "(s0 + s1 + s2 + s3 + s4 + s5 + s6)**16", "*".join(["1e308"] * 40), "+".join(["s0"] * 100), "(" * 200 + "s0",
        "s0 if s1 else s2", "s0.is_integer", "[s0]", "lambda: s0", "Eq(s0, s1, evaluate=False)", "sqrt(s0)",
        "(s0 < s1) + 1", "(1 < s0)**2", "ModularIndexing(zf0 + 0.5, 7*zf0, 2)", "FloorDiv(s0, 0.5)",
    ],
)  # fmt: skip
def test_expressions_are_small_and_nothing_but_expressions(expression: str, plain: dict[str, Any]) -> None:
    with pytest.raises(DeadkvError, match="is not a symbolic expression") as raised:
        parse(expression)
    assert_one_line(raised.value)
    shape(expression)(plain)
    assert "is not a symbolic expression" in refused(plain)


def test_the_parser_of_python_does_not_warn_about_an_expression() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for hostile in ("1if s0 else 2", "0x1for", r"'\d'", "s0 is 1"):
            with pytest.raises(DeadkvError, match="is not a symbolic expression") as raised:
                parse(hostile)
            assert not isinstance(raised.value.__cause__, Warning)


LIMITS: dict[str, tuple[Change, str]] = {
    "name": (node("x", name="a" * 1001), r"1001 characters; the limit is 1000"),
    "target": (node("add", target="a." * 600), r"1200 characters; the limit is 1000"),
    "path": (lambda f: f["objects"].update({"a" * 1001: "b"}), "1001 characters; the limit is 1000"),
    "digits": (lambda f: f["parameters"][0].update(fqn="layers." + "1" * 5000), "5007 characters; the limit is 1000"),
    "string": (node("add", args=["a" * (2**20 + 1)]), "the limit is 1048576"),
    "integer": (node("add", args=[{"node": "x"}, 2**128 + 1]), r"the integer '\d+' is beyond 2\*\*128"),
    "integer text": (node("add", args=[{"int": "9" * 999}]), r"the integer '9+\.\.\.' is beyond"),
    "rank": (shape(*[1] * 33), "33 dimensions; the limit is 32"),
    "size": (shape(2**62 + 1), r"is not between 0 and 2\*\*62"),
    "elements": (shape(2**31, 2**32), r"a tensor of more than 2\*\*62 elements"),
    "symbols": (node("x", type=[{"scalar": "int", "value": f"u{i}"} for i in range(1001)]), "more than 1000 symbols"),
    "range": (node("add", args=[{"range": [0, 9, 0]}]), "the step of a range is not 0"),
    "parameter in a parameter": (
        lambda f: f["parameters"].append({**f["parameters"][0], "fqn": f["parameters"][0]["fqn"] + ".data"}),
        "lies in a parameter",
    ),
    "method of a constant": (node("add", op="call_method", target="Tensor.size", args=[1]), "the first argument of a"),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_a_file_beyond_a_limit_is_refused(limit: str, plain: dict[str, Any]) -> None:
    change, message = LIMITS[limit]
    change(plain)
    with pytest.raises(DeadkvError, match=message) as raised:
        graph_module(loads(json.dumps(plain)))
    assert_one_line(raised.value)


@pytest.mark.parametrize("limit", ["MAX_NODES", "MAX_PATH_PARTS"])
def test_limits_hold_for_all_nested_graphs_together(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def outer() -> dict[str, Any]:
        inner = json.loads(valid()[1])
        del inner["schema"]
        return {**json.loads(valid()[1]), "subgraphs": {"region": inner, "other": {**inner, "subgraphs": {}}}}

    totals = {"MAX_NODES": 3 * len(outer()["nodes"]), "MAX_PATH_PARTS": 3 * 3 + 2}
    assert loads(json.dumps(outer()))
    monkeypatch.setattr(f"tracing.graph.check.{limit}", totals[limit])
    assert loads(json.dumps(outer()))
    monkeypatch.setattr(f"tracing.graph.check.{limit}", totals[limit] - 1)
    assert f"more than {totals[limit] - 1}" in refused(outer())


def test_too_many_values_are_refused_before_they_take_memory() -> None:
    content = "[" + "{}," * 2_000_000 + "{}]"
    tracemalloc.start()
    with pytest.raises(DeadkvError, match="holds more than 2000000 values, the limit"):
        parse_json(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < len(content)


def test_a_key_that_occurs_twice_is_found_in_linear_time() -> None:
    keys = [f'"{key}": 0' for key in range(300_000)]
    with pytest.raises(DeadkvError, match="the key '299999' occurs twice"):
        parse_json("{" + ", ".join([*keys, keys[-1]]) + "}")


def test_a_file_without_an_end_is_read_to_the_limit_only() -> None:
    with pytest.raises(DeadkvError, match="/dev/zero: has more than 33554432 bytes, the limit"):
        load("/dev/zero")


def test_a_pipe_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=(valid()[0],))
    writer.start()
    assert load(tmp_path / "pipe") == loads(valid()[0])
    writer.join()


MISFITS: dict[str, tuple[str, dict[str, Any], str]] = {
    "no operand": ("aten.index_select.default", {"args": []}, "the argument 'self' is missing"),
    "an operand too many": ("aten.detach.default", {"args": [{"node": "x"}, 1]}, "more arguments than the operator"),
    "twice": ("aten.detach.default", {"args": [{"node": "x"}], "kwargs": {"self": {"node": "x"}}}, "more arguments"),
    "keyword": ("aten.detach.default", {"args": [{"node": "x"}], "kwargs": {"b": 1}}, "no argument is called 'b'"),
    "no tensor": ("aten._assert_tensor_metadata.default", {"args": [None]}, "'a' cannot be that constant"),
    "a number": ("aten.sym_size.int", {"args": [1, 0]}, "'self' cannot be that constant"),
    "a list": ("aten.sym_size.int", {"args": [{"node": "x"}, [0]]}, "'dim' cannot be that constant"),
    "a dtype": ("aten._assert_tensor_metadata.default", {"args": [{"node": "x"}, {"dtype": "int8"}]}, "'size' cannot"),
    "text in a list": ("aten.view.default", {"args": [{"node": "x"}, ["1"]]}, "'size' cannot be that constant"),
    "no graph": ("hop.invoke_subgraph", {"args": []}, "takes a graph first and its operands in lists"),
    "no list": ("hop.scan", {"args": [{"node": "x"}] * 4}, "takes a graph first and its operands in lists"),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_a_call_that_torch_would_not_accept_is_refused(misfit: str, plain: dict[str, Any]) -> None:
    target, arguments, message = MISFITS[misfit]
    node("add", target=target, **arguments)(plain)
    assert message in refused(plain)


@pytest.mark.parametrize(
    ("target", "args"),
    [
        ("aten.add.Tensor", [{"node": "x"}, 1]),
        ("aten.sum.dim_IntList", [{"node": "x"}, 1]),
        ("aten.sum.dim_IntList", [{"node": "x"}, None]),
        ("aten.index.Tensor", [{"node": "x"}, [None, {"node": "x"}]]),
        ("aten._to_copy.default", [{"node": "x"}]),
        ("aten.view.default", [{"node": "x"}, [{"sym": "2*s0"}, {"node": "sym_size"}]]),
        ("aten.full.default", [[2], {"float": "inf"}]),
        ("hop.cond", [True, {"node": "x"}, {"node": "x"}, {"tuple": []}]),
    ],
)
def test_a_call_that_torch_accepts_is_read(target: str, args: list[Any], plain: dict[str, Any]) -> None:
    node("add", target=target, args=args)(plain)
    graph_module(loads(json.dumps(plain)))


HOSTILE = "<b>&amp;\x1b[31m\u202e\x7f\x9b\r\"';$(id)`\\"


def test_hostile_text_is_escaped_wherever_it_is_shown(plain: dict[str, Any]) -> None:
    source = {"at": f"{HOSTILE.replace(chr(34), '').replace('<', '')}.py:3", "code": f"{HOSTILE}\n\u2028"}
    node("add", target=f"a.{HOSTILE}", args=[HOSTILE, {"node": "x"}], source=source)(plain)
    plain["objects"] = {"leaf": HOSTILE}
    doc, other = loads(json.dumps(plain)), loads(valid()[1])
    report = {"sites": [_site(HOSTILE)], "rewritten": [{"node": "add", "rule": HOSTILE}]}
    for before, after in ((doc, other), (other, doc)):
        found = diff(before, after, report)
        assert_printable(render_text(found, color=False) + render_dot(found))
        page = render_html(found, before, after)
        assert_printable(page)
        assert "<b>" not in page and "&lt;b&gt;" in page
    assert_printable(text(doc, source=True) + dumps(doc))
    assert loads(dumps(doc)) == doc
    assert "&amp;amp;" in render_dot(diff(doc, other))


def _site(name: str) -> dict[str, Any]:
    return {
        "layer": 0, "role": name, "cache": name, "status": "live", "reason": name, "pinned_by": [name, name],
        "bytes": 8, "nodes": ["index_select"],
    }  # fmt: skip


@pytest.mark.parametrize("command", ["explain", "diff", "verify"])
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_terminal_shows_hostile_text_escaped(
    deadkv: Run, plain: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, form: Any
) -> None:
    for found in plain["nodes"]:
        found["source"] = {"at": "\x1b]0;a\u202e\x7f.py:3", "code": HOSTILE}
    hostile, known = tmp_path / "hostile.graph.json", tmp_path / "known.graph.json"
    hostile.write_text(json.dumps(plain), encoding="utf-8")
    known.write_text(valid()[0], encoding="utf-8")
    assert deadkv(command, *((hostile,) if command == "explain" else (hostile, known)), *form) in (0, 1)
    shown = capsys.readouterr().out
    assert_printable(shown)
    assert command != "explain" or "index_select" in shown or "]0;a" in shown


def test_a_hostile_file_name_is_one_line(deadkv: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert deadkv("explain", tmp_path / "a\x1b[2J\u202e\nb.json") == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert_printable(shown)


def test_tables_and_lines_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    stdout().print(HOSTILE)
    print_table(("a", "b"), [(HOSTILE, "\n")])
    shown = capsys.readouterr().out
    assert shown.count("\n") == 3
    assert_printable(shown)


REPORTS: dict[str, tuple[str | bytes, str]] = {
    "cut short": ('{"schema": "deadkv.rep', "the file ends too early"),
    "not UTF-8": (b"\xff{}", "not UTF-8 text"),
    "deep": ("[" * 100_000, "nested too deep"),
    "another version": ('{"schema": "deadkv.report/9"}', "this deadkv reads deadkv.report/1"),
    "long integer": ('{"schema": "deadkv.report/1", "summary": {"a": ' + "9" * 5000 + "}}", "more digits than Python"),
    "huge bytes": ({"sites": [{**_site("a"), "bytes": 10**400}]}, "sites[0].bytes: expected a count below 2**63"),
    "negative layer": ({"sites": [{**_site("a"), "layer": -1}]}, "report.sites[0].layer: expected a count"),
    "true bytes": ({"summary": {"bytes_before": True}}, "report.summary.bytes_before: expected a count"),
    "text for a count": ({"summary": {"nodes_before": "9"}}, "report.summary.nodes_before: expected int, found str"),
    "no sites": ({"sites": {"a": 1}}, "report.sites: expected list, found dict"),
}  # fmt: skip


@pytest.mark.parametrize("case", REPORTS)
def test_a_report_that_cannot_be_read_is_one_line(
    deadkv: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    found, message = REPORTS[case]
    if isinstance(found, dict):
        found = json.dumps({"schema": "deadkv.report/1", **found})
    (tmp_path / "report.json").write_bytes(found if isinstance(found, bytes) else found.encode())
    for name in ("before", "after"):
        (tmp_path / f"{name}.graph.json").write_text(valid()[0], encoding="utf-8")
    assert deadkv("diff", tmp_path, tmp_path) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"deadkv: {tmp_path}/report.json: ") and shown.count("\n") == 1
    assert message in shown


@pytest.mark.parametrize("content", ["[]", "{}", '{"schema": "other/1", "sites": 3}', '{"schema": {"a": 1}}'])
def test_a_report_of_something_else_is_left_alone(deadkv: Run, tmp_path: Path, content: str) -> None:
    (tmp_path / "report.json").write_text(content, encoding="utf-8")
    (tmp_path / "before.graph.json").write_text(valid()[0], encoding="utf-8")
    assert deadkv("diff", tmp_path / "before.graph.json", tmp_path / "before.graph.json") == 0


@pytest.mark.parametrize("content", valid()[:3], ids=["decode", "uses", "nested"])
def test_valid_files_are_used(content: str) -> None:
    assert use(content) == "used"
