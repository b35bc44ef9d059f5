"""The commands that read graphs from files: `diff`, `explain`, `verify`, and the list of passes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import tracing.decoder.contract  # noqa: F401  (registers the reference decoder's operator and its contract)
from passes import DeadkvError, PrunePrefixCache, PruneVerificationError, available_passes, verify_prune
from passes.specs import options_of
from tracing.cli.reports import print_sites, print_summary
from tracing.cli.terminal import print_json, stdout
from tracing.graph import GraphDoc, diff, graph_module, load, paired_modules, render_dot, render_html, render_text
from tracing.graph.reasons import read_report
from tracing.output import write_whole

DIFFERENT = 1
Graph = Annotated[Path, typer.Argument(help="A graph file (*.graph.json) or an output folder of `deadkv compile`.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def diff_command(
    before: Graph,
    after: Graph,
    html: Annotated[Path | None, typer.Option(help="Also write a self-contained HTML page.")] = None,
    dot: Annotated[Path | None, typer.Option(help="Also write the changed nodes for Graphviz.")] = None,
    as_json: Json = False,
) -> None:
    """Compare two graphs. Exit code 0 if they are the same, 1 if they differ, 2 on an error."""
    old, new = _load(before, "before"), _load(after, "after")
    changes = diff(old, new, report=_report_beside(after))
    if html is not None:
        write_whole(html, render_html(changes, old, new))
    if dot is not None:
        write_whole(dot, render_dot(changes))
    if as_json:
        print_json(changes.to_dict())
    else:
        console = stdout()
        console.out(render_text(changes, color=console.is_terminal and not console.no_color), end="", highlight=False)
    raise typer.Exit(0 if changes.same else DIFFERENT)


def explain_command(
    graph: Graph,
    policy: Annotated[str, typer.Option(help="Which dead sites go: conservative, liveness.")] = "conservative",
    as_json: Json = False,
) -> None:
    """Show every materialization site of a graph: dead or live, why, what pins it, and what it costs a step."""
    report = PrunePrefixCache(policy=policy).explain(graph_module(_load(graph, "before")))
    if as_json:
        print_json(report.to_dict())
        return
    print_summary(report)
    if report.sites:
        print_sites(report)


def verify_command(before: Graph, after: Graph, as_json: Json = False) -> None:
    """Prove that a pruned graph computes and writes what the graph before did. Exit code 1 if it cannot be proven."""
    old, new = paired_modules(_load(before, "before"), _load(after, "after"))
    try:
        verify_prune(old, new)
        flaw = None
    except PruneVerificationError as error:
        flaw = str(error)
    if as_json:
        print_json({"verified": flaw is None, "flaw": flaw})
    else:
        stdout().print(
            "verified: the pruned graph computes and writes what the graph before did" if flaw is None else flaw
        )
    raise typer.Exit(0 if flaw is None else DIFFERENT)


def passes_command(as_json: Json = False) -> None:
    """List the available passes and their options."""
    found = [_describe(name, cls) for name, cls in available_passes().items()]
    if as_json:
        print_json(found)
        return
    for entry in found:
        options = ", ".join(f"{key}={value}" for key, value in entry["options"].items())
        stdout().print(f"{entry['name']}{{{options}}}\n    {entry['summary']}")


def _describe(name: str, cls: Any) -> dict[str, Any]:
    options = {key: field.default for key, field in options_of(cls).items()}
    return {"name": name, "summary": (cls.__doc__ or "").strip().splitlines()[0], "options": options}


def _load(path: Path, which: str) -> GraphDoc:
    """A graph file, or the graph `which` of an output folder."""
    return load(path / f"{which}.graph.json" if path.is_dir() else path)


def _report_beside(path: Path) -> dict[str, Any] | None:
    """The report.json of the folder that a graph is in, if it is one of ours."""
    file = (path if path.is_dir() else path.parent) / "report.json"
    if not file.is_file():
        return None
    try:
        return read_report(file)
    except DeadkvError as error:
        raise DeadkvError(f"{file}: {error}") from error
