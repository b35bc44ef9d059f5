"""The renderings: safe with hostile names, self-contained, complete."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser

import pytest

from tests.support.graphs import decoder
from tracing.graph import GraphDiff, diff, document, render_dot, render_html, render_text
from tracing.graph.document import Const, GraphDoc, Node, Parameter, Ref, Source, TensorType

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
    """Collects tags and attributes, and fails on a tag that is not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def pages(found: GraphDiff) -> Page:
    return Page(render_html(found, found.before, found.after))


TAGS = {
    "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "div", "span", "p", "table", "tr", "th", "td",
    "strong", "code", "dl", "dt", "dd", "details", "summary", "pre", "b",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text_in_html(name: str) -> None:
    page = pages(hostile_diff(name))
    assert set(page.tags) <= TAGS
    assert page.tags.count("style") == 1
    assert {key for key, _ in page.attributes} <= {"lang", "charset", "name", "content", "class"}
    assert {v for k, v in page.attributes if k == "class"} <= CLASSES
    assert "\x1b" not in page.words and "\x00" not in page.words


CLASSES = {
    "headline", "badge same", "badge differs", "scroll", "number", "mono", "wide", "mono wide", "card del", "card add",
    "card mod", "meta", "meta mono", "line mono tone-del", "line mono tone-add", "line mono tone-mod", "tone-del",
    "tone-add", "number tone-del", "number tone-add", "del", "add", "mod",
}  # fmt: skip


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
    assert re.search(r"(?i)https?://|\bsrc=|\bhref=|url\(|@import|<script|<link|<iframe", content) is None
    assert "prefers-color-scheme: dark" in content
    assert 'name="viewport"' in content


def test_the_page_shows_both_texts_with_changed_lines_marked() -> None:
    found = diff(document(decoder(2, prior="operand")), document(decoder(3, prior="none")))
    content = render_html(found, found.before, found.after)
    before, after = content.split("<summary>")[1:]
    assert before.count('<b class="del">') == len(found.differences.removed) == 10
    assert before.count('<b class="mod">') == len(found.differences.rewired) == 2
    assert after.count('<b class="add">') == len(found.differences.added) == 6
    assert "%9: f32[9, 2, 8] = parameter layers.0.k_cache" in before
    assert "%9: f32[9, 2, 8] = parameter layers.0.k_cache" in after
    assert "%+3: f32[2, 8] = deadkv_graph_test.attention_block_tkg.default(%+1, None, %+2, %1)" in after


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
