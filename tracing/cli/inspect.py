"""The commands that compare graphs from files, `diff` and `verify`, and the list of passes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

import tracing.decoder.contract  # noqa: F401  (registers the reference decoder's operator and its contract)
from passes import DeadkvError, PruneVerificationError, available_passes, verify_prune
from passes.registry import constraints_of
from passes.specs import options_of
from tracing.cli.bucket_reports import bucket_reports
from tracing.cli.inputs import Graph, Json, load_graph, report_beside
from tracing.cli.terminal import print_json, stderr, stdout
from tracing.graph import (
    diff,
    paired_modules,
    render_dot,
    render_html,
    render_model_explorer,
    render_svg,
    render_text,
)
from tracing.graph.relation import warning
from tracing.output import write_whole

DIFFERENT = 1
After = Annotated[
    Path | None, typer.Argument(help="The same; not needed after an output folder.", show_default="its after graph")
]


def diff_command(
    before: Graph,
    after: After = None,
    source: Annotated[bool, typer.Option("--source", help="Show the lines of the model that nodes come from.")] = False,
    html: Annotated[Path | None, typer.Option(help="Also write a self-contained HTML page.")] = None,
    dot: Annotated[Path | None, typer.Option(help="Also write the changed nodes for Graphviz.")] = None,
    svg: Annotated[Path | None, typer.Option(help="Also let Graphviz draw them, of equal chains one.")] = None,
    model_explorer: Annotated[
        Path | None, typer.Option(help="Also write both graphs as JSON for Google's Model Explorer.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two graphs. Exit code 0 if they are the same, 1 if they differ, 2 on an error."""
    newer = after or _folder(before)
    old, new = load_graph(before, "before"), load_graph(newer, "after")
    changes = diff(old, new, report=report_beside(newer))
    unrelated = warning(changes)
    if unrelated is not None:
        stderr().print(f"deadkv: warning: {unrelated}")
    if html is not None:
        write_whole(html, render_html(changes, old, new, bucket_reports(newer)))
    if dot is not None:
        write_whole(dot, render_dot(changes))
    if svg is not None:
        write_whole(svg, render_svg(changes))
    if model_explorer is not None:
        write_whole(model_explorer, render_model_explorer(changes))
    if as_json:
        print_json({**changes.to_dict(), "warning": unrelated})
    else:
        console = stdout()
        color = console.is_terminal and not console.no_color
        console.out(render_text(changes, color=color, source=source), end="", highlight=False)
    raise typer.Exit(0 if changes.same else DIFFERENT)


def _folder(given: Path) -> Path:
    """An output folder holds both graphs; a file needs another one beside it."""
    if not given.is_dir():
        raise DeadkvError(f"{given} is one graph: name a second one, or an output folder of deadkv compile")
    return given


def verify_command(before: Graph, after: After = None, as_json: Json = False) -> None:
    """Prove that a pruned graph computes and writes what the graph before did. Exit code 1 if it cannot be proven."""
    newer = after or _folder(before)
    old, new = paired_modules(load_graph(before, "before"), load_graph(newer, "after"))
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
        for relation, names in entry["constraints"].items():
            stdout().print(f"    {relation}: {', '.join(names)}")


def _describe(name: str, cls: Any) -> dict[str, Any]:
    options = {key: field.default for key, field in options_of(cls).items()}
    constraints = {key: list(names) for key, names in asdict(constraints_of(name)).items() if names}
    summary = (cls.__doc__ or "").strip().splitlines()[0]
    return {"name": name, "summary": summary, "options": options, "constraints": constraints}
