"""The renderings: safe with hostile names, self-contained, complete."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from tests.support.graphs import decoder
from tracing.graph import GraphDiff, diff, document, render_dot, render_html, render_text
from tracing.graph.document import Const, GraphDoc, Node, Parameter, Ref, Source, TensorType
from tracing.graph.escape import one_line

HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "%s %(x)s {{ 7*7 }} {% raw %}",
    "line\nbreak\r\n\x1b[31mred\x00",
    'quote" -> "other"; } evil {',
    "back\\slash\\",
    "\u202ereversed",
    "</pre></code></details><style>*{display:none}</style>",
)


def hostile(name: str, *, removed: bool) -> GraphDoc:
    """A document, of a kind that no file can be, in which every text is `name`."""
    weight = TensorType("float32", (2,))
    nodes = [Node(f"{name}in", "placeholder", name), Node(f"{name}w", "get_attr", name, type=weight)]
    if removed:
        source = Source(name, name)
        args = (Ref(f"{name}in"), Ref(f"{name}w"), Const("str", name), Const("object", name))
        nodes.append(Node(f"{name}op", "call_function", name, args, type=weight, source=source))
    kept = (Ref(f"{name}op" if removed else f"{name}w"), Const("str", name + "!" * removed))
    nodes.append(Node(f"{name}kept", "call_function", name, kept, ((name, Const("device", name)),)))
    nodes.append(Node("output", "output", "output", (Ref(f"{name}kept"),)))
    return GraphDoc(name, tuple(nodes), (Parameter(name, weight),), ((name, 0),))


def hostile_diff(name: str) -> GraphDiff:
    report = {
        "summary": {},
        "sites": [
            {"layer": 1, "role": name, "cache": name, "status": "pruned", "reason": name, "nodes": [f"{name}op"]},
            {"layer": 2, "role": name, "cache": name, "status": "live", "reason": name, "pinned_by": [name, name]},
        ],
        "rewritten": [{"node": f"{name}kept", "rule": name}],
    }
    inner = diff(hostile(name, removed=True), hostile(name, removed=False), report)
    assert inner.differences.removed == (f"{name}op",)
    return inner


class Page(HTMLParser):
    """Collects tags, attributes and scripts, and fails on a tag that is not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.words = ""
        self.raw: list[str] = []  # the content of style sheets and scripts
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("style", "script"):
            self.raw.append(data)
        else:
            self.words += data

    @property
    def data(self) -> dict[str, Any]:
        """What the scripts show."""
        return json.loads(next(raw for raw in self.raw if raw.startswith("{")))


def pages(found: GraphDiff) -> Page:
    return Page(render_html(found, found.before, found.after))


SHOWN = ("data-links", "aria-label", "href")  # attributes that hold data


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text_in_html(name: str) -> None:
    plain, page = pages(hostile_diff("plain")), pages(hostile_diff(name))
    assert page.tags == plain.tags
    assert [key for key, _ in page.attributes] == [key for key, _ in plain.attributes]
    assert [v for k, v in page.attributes if k not in SHOWN] == [v for k, v in plain.attributes if k not in SHOWN]
    assert all(re.fullmatch(r"#(\d+:\d+|graphs)", value or "") for key, value in page.attributes if key == "href")
    assert "\x1b" not in page.words and "\x00" not in page.words


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_strings_in_the_data_of_the_page(name: str) -> None:
    found = hostile_diff(name)
    page = pages(found)
    raw = next(raw for raw in page.raw if raw.startswith("{"))
    assert not set("<>&'") & set(raw) and raw.isascii()
    assert page.data["panes"][0]["rows"][2]["b"][0] == one_line(f"{name}op")
    assert all(text.isprintable() for text in strings(page.data))


def strings(found: Any) -> Iterator[str]:
    if isinstance(found, str):
        yield found
    elif isinstance(found, (list, dict)):
        for item in found if isinstance(found, list) else (*found.keys(), *found.values()):
            yield from strings(item)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_on_their_line_in_text(name: str) -> None:
    plain = hostile_diff("plain")
    found = hostile_diff(name)
    for color in (False, True):
        ours, theirs = render_text(found, color=color), render_text(plain, color=color)
        assert ours.count("\n") == theirs.count("\n")
        assert ours.count("\x1b") == theirs.count("\x1b")
        assert all(character.isprintable() or character in "\n\x1b" for character in ours)


STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_quoted_in_dot(name: str) -> None:
    bare = [STRING.sub('""', render_dot(hostile_diff(n))) for n in ("plain", name)]
    assert bare[0] == bare[1]
    assert '"' not in bare[1].replace('""', "")


def test_the_page_loads_nothing_and_suits_light_and_dark() -> None:
    found = diff(document(decoder(3, prior="operand")), document(decoder(3, prior="none")))
    content = render_html(found, found.before, found.after)
    assert re.search(r"(?i)https?://|\bsrc=|url\(|@import|<link|<iframe|innerHTML|\beval\b", content) is None
    assert set(re.findall(r'href="(.)', content)) == {"#"}
    assert "light-dark(" in content and "color-scheme: light dark" in content
    assert 'name="viewport"' in content


def test_the_page_admits_its_own_style_and_script_only() -> None:
    page = pages(hostile_diff("plain"))
    policy = next(value or "" for key, value in page.attributes if key == "content" and "default-src" in (value or ""))
    style, data, script = page.raw
    assert policy.startswith("default-src 'none'; base-uri 'none'; form-action 'none'; ")
    assert policy.endswith(f"style-src '{digest(style)}'; script-src '{digest(script)}'")
    assert json.loads(data)


def digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def test_rows_are_aligned_and_say_what_changed() -> None:
    found = diff(document(decoder(2, prior="operand")), document(decoder(3, prior="none")))
    data = pages(found).data
    rows = data["panes"][0]["rows"]
    status = [data["statuses"][row["s"]] for row in rows]
    assert status.count("removed") == len(found.differences.removed) == 10
    assert status.count("rewired") == len(found.differences.rewired) == 2
    assert status.count("added") == len(found.differences.added) == 6
    assert all(
        ("b" in row, "a" in row) == (name != "added", name != "removed") for row, name in zip(rows, status, strict=True)
    )
    assert [row["b"][0] for row in rows if "b" in row] == [node.name for node in found.before.nodes]
    attention = rows[status.index("rewired")]
    assert attention["c"] == [["K_prior", "permute_default", "None"]]
    assert attention["b"][3] == "%8, %7, %9, %1" and attention["a"][3] == "%8, None, %9, %1"
    assert [rows[operand]["b"][0] for operand in attention["a"][4]] == [
        "mm_default",
        "layers_0_k_cache_1",
        "block_table",
    ]
    assert [row["l"] for row in rows if status[rows.index(row)] == "added"] == [2] * 6


def test_rows_repeat_what_an_earlier_row_shows() -> None:
    found = diff(document(decoder(3, prior="operand")), document(decoder(3, prior="none")))
    rows = pages(found).data["panes"][0]["rows"]
    changed = [row for row in rows if row["s"]]
    assert len(changed) == 18
    assert [row.get("l") for row in changed if "e" not in row] == [0, None, 0, 0, 0, 0]
    assert not any("e" in row for row in rows if not row["s"])


def test_the_page_of_equal_graphs_says_so() -> None:
    doc = document(decoder(1))
    page = pages(diff(doc, doc))
    assert "the same graph, up to names and order" in page.words
    assert "Removed" not in page.words


def test_colours_only_on_request() -> None:
    found = diff(document(decoder(2, prior="operand")), document(decoder(2, prior="none", scale=2.0)))
    plain, colored = render_text(found, color=False), render_text(found, color=True)
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[\d*m", "", colored) == plain
    assert "\x1b[31m  - get_attr" in colored
    assert "\x1b[33m  ~ mul_tensor" in colored


def test_dot_shows_changed_nodes_and_one_hop() -> None:
    found = diff(document(decoder(2, prior="operand")), document(decoder(2, prior="none")))
    drawing = render_dot(found)
    names = set(re.findall(r'^  "([^"]*)" \[label', drawing, re.MULTILINE))
    changed = {*found.differences.removed, *(node.name for node in found.differences.rewired)}
    assert changed <= names
    assert names - changed == {
        "block_table", "mm_default", "mm_default_1", "mul_tensor", "mul_tensor_1", "layers_0_k_cache_1",
        "layers_1_k_cache_1",
    }  # fmt: skip
    assert '"permute_default" -> "attention_block_tkg_default" [color="#b42318", style=dashed];' in drawing
    assert '"mm_default" -> "attention_block_tkg_default";' in drawing


def test_the_dict_is_json_and_complete() -> None:
    found = diff(document(decoder(3, prior="operand")), document(decoder(4, prior="none", scale=2.0)))
    data = json.loads(json.dumps(found.to_dict()))
    assert data == found.to_dict()
    assert data["schema"] == "deadkv.diff/1"
    assert not data["same"]
    assert data["nodes"] == [36, 27]
    assert [n for group in data["removed"] for c in group["chains"] for n in c["nodes"]] != []
    removed = {n for group in data["removed"] for chain in group["chains"] for n in chain["nodes"]}
    assert removed == set(found.differences.removed)
    assert len(data["rewired"]) == len(found.differences.rewired)
    assert data["rewired"][0]["changes"] == [{"slot": "K_prior", "before": "permute_default", "after": "None"}]
    assert {entry["op"] for entry in data["ops"]} >= {"aten.index_select.default", "aten.mul.Tensor"}


def test_nested_differences_show_in_every_rendering() -> None:
    inner_before, inner_after = document(decoder(1, prior="operand")), document(decoder(1, prior="none"))
    call = Node("y", "call_module", "module:region", (Ref("x"),))
    nodes = (Node("x", "placeholder", "x"), call, Node("output", "output", "output", (Ref("y"),)))
    outer = GraphDoc("M", nodes, subgraphs=(("region", inner_before),))
    found = diff(outer, dataclasses.replace(outer, subgraphs=(("region", inner_after),)))
    assert "nested graph region (after: region)\n" in render_text(found, color=False)
    assert "  - get_attr -> index_select -> view -> permute" in render_text(found, color=False)
    assert "Nested graph region" in pages(found).words.replace("\n", "")
    assert 'subgraph "cluster region/"' in render_dot(found)
    assert found.to_dict()["subgraphs"][0]["diff"]["removed"][0]["count"] == 1
    assert render_text(found, color=False).startswith("nodes 17 -> 12 (-5)\n")


def test_a_node_of_one_text_that_reads_other_nodes_is_shown_twice() -> None:
    """An output is no changed node: what it returns is a change of the interface."""

    def returning(name: str) -> GraphDoc:
        calls = [Node(f"n{index}", "call_function", f"my.op{index}", (Ref("x"),)) for index in range(2)]
        return GraphDoc("M", (Node("x", "placeholder", "x"), *calls, Node("output", "output", "output", (Ref(name),))))

    rows = pages(diff(returning("n0"), returning("n1"))).data["panes"][0]["rows"]
    assert [row["a"] for row in rows[:3]] == [1, 1, 1]
    assert (rows[3]["s"], rows[3]["b"][3:], rows[3]["a"][3:]) == (0, ["%1", [1]], ["%2", [2]])
