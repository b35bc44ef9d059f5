"""The commands that show one graph: `explain` and `dump`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import tracing.decoder.contract  # noqa: F401  (registers the reference decoder's operator and its contract)
from passes import DeadkvError, PrunePrefixCache
from tracing.cli.inputs import Graph, Json, load_graph
from tracing.cli.reports import print_sites, print_summary
from tracing.cli.terminal import print_json, print_table, stdout
from tracing.explain_html import render_explain
from tracing.graph import dumps, graph_module, text
from tracing.graph.dump_dot import graph_dot
from tracing.graph.table import COLUMNS, rows
from tracing.output import write_whole


def explain_command(
    graph: Graph,
    policy: Annotated[str, typer.Option(help="Which dead sites go: conservative, liveness.")] = "conservative",
    html: Annotated[Path | None, typer.Option(help="Also write a self-contained HTML page.")] = None,
    as_json: Json = False,
) -> None:
    """Show every materialization site of a graph: dead or live, why, what pins it, and what it costs a step.

    Of an output folder, the graph before.
    """
    report = PrunePrefixCache(policy=policy).explain(graph_module(load_graph(graph, "before")))
    if html is not None:
        write_whole(html, render_explain(report, graph.name))
    if as_json:
        print_json(report.to_dict())
        return
    print_summary(report)
    if report.sites:
        print_sites(report)


def dump_command(
    graph: Graph,
    before: Annotated[bool, typer.Option("--before", help="Of an output folder, the graph before.")] = False,
    source: Annotated[bool, typer.Option("--source", help="Show the line of the model each node comes from.")] = False,
    table: Annotated[bool, typer.Option("--table", help="Print one row a node.")] = False,
    dot: Annotated[bool, typer.Option("--dot", help="Print the graph for Graphviz.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the graph file, the input of every command.")] = False,
) -> None:
    """Print a graph: as canonical text, as a table, for Graphviz, or as a graph file.

    Of an output folder, the graph after, unless --before is given.
    """
    if table + dot + as_json > 1:
        raise DeadkvError("--table, --dot and --json are three forms of one output: give one of them")
    doc = load_graph(graph, "before" if before else "after")
    if table:
        print_table((*COLUMNS, "source") if source else COLUMNS, rows(doc, source=source))
        return
    printed = graph_dot(doc) if dot else dumps(doc) if as_json else text(doc, source=source)
    stdout().out(printed, end="", highlight=False)
