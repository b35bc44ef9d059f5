"""Graph documents: read them from torch.fx and from files, print them, and compare them."""

from tracing.graph.diff import GraphDiff, diff
from tracing.graph.diff_dot import render_dot
from tracing.graph.diff_html import render_html
from tracing.graph.diff_model_explorer import render_model_explorer
from tracing.graph.diff_svg import render_svg
from tracing.graph.diff_text import render_text
from tracing.graph.document import GraphDoc
from tracing.graph.from_fx import document
from tracing.graph.jsonfile import dumps, load
from tracing.graph.paired import paired_modules
from tracing.graph.text import text
from tracing.graph.to_fx import graph_module

__all__ = [
    "GraphDiff",
    "GraphDoc",
    "diff",
    "document",
    "dumps",
    "graph_module",
    "load",
    "paired_modules",
    "render_dot",
    "render_html",
    "render_model_explorer",
    "render_svg",
    "render_text",
    "text",
]
