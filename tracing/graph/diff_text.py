"""A diff for a terminal or a log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from typer import style

from tracing.graph.diff import GraphDiff
from tracing.graph.escape import one_line
from tracing.graph.kept import kept_rows, path_ends
from tracing.graph.reasons import Site
from tracing.graph.view import ChainRow, ChangeRow, chain_rows, change_rows, counted, delta, headline, interface_rows

_COLORS = {"-": "red", "+": "green", "~": "yellow", "!": "magenta"}
_MAX_NAMES = 6  # of a chain or change, before the rest is counted
_MAX_SOURCES = 3


def render_text(diff: GraphDiff, *, color: bool, source: bool = False) -> str:
    """The diff as text: headline first, equal layers once, chains on one line. `color` adds ANSI colours, `source` the
    lines of the model that nodes come from."""
    return "".join(f"{_colored(one_line(line), color)}\n" for line in _lines(diff, source))


def _colored(line: str, color: bool) -> str:
    tone = _COLORS.get(line.lstrip()[:2].rstrip()) if line.startswith(" ") else None
    if not color or (tone is None and line.startswith(" ")):
        return line
    return style(line, fg=tone) if tone else style(line, bold=True)


def _lines(diff: GraphDiff, source: bool) -> Iterator[str]:
    if diff.same:
        yield f"the same graph: {headline(diff)}"
        yield from _kept(diff.reasons.kept())
        return
    yield headline(diff)
    yield from (f"  {delta(op, before, after)}" for op, before, after in diff.op_counts())
    yield from _interface(diff)
    found = diff.differences
    yield from _chains("removed", "-", len(found.removed), chain_rows(diff, diff.before, diff.removed_folds), source)
    yield from _chains("added", "+", len(found.added), chain_rows(diff, diff.after, diff.added_folds), source)
    yield from _changes("rewired operands", change_rows(diff, found.rewired))
    yield from _changes("changed attributes", change_rows(diff, found.changed))
    yield from _changes("reordered effects", change_rows(diff, found.reordered))
    yield from _kept(diff.reasons.kept())
    for nested in diff.subgraphs:
        yield f"nested graph {nested.before_path} (after: {nested.after_path})"
        yield from (f"  {line}" for line in _lines(nested.diff, source))


def _interface(diff: GraphDiff) -> Iterator[str]:
    changes = diff.differences.interface
    doc = diff.before
    if not changes:
        parts = (counted(len(doc.inputs), "input"), counted(len(doc.outputs), "output"))
        yield f"interface unchanged: {', '.join((*parts, counted(len(doc.parameters), 'parameter')))}"
        return
    yield f"interface: {counted(len(changes), 'change')}"
    yield from (f"  ! {row}" for row in interface_rows(changes))


def _times(count: int, where: str) -> str:
    return f"{count} x the same, shown once" + (f": {where}" if where else "")


def _chains(title: str, mark: str, nodes: int, rows: Sequence[ChainRow], source: bool) -> Iterator[str]:
    if rows:
        chains = counted(sum(row.count for row in rows), "chain")
        yield f"{title}: {counted(nodes, 'node')} in {chains}"
    for row in rows:
        if row.count > 1 or row.where:
            yield f"  {_times(row.count, row.where) if row.count > 1 else row.where}"
        yield f"  {mark} {row.line}   {'   '.join(filter(None, (row.type, row.size)))}"
        yield f"      nodes   {names_text(row.nodes)}"
        yield f"      reads   {names_text(row.reads)}"
        yield f"      read by {names_text(row.users)}"
        yield from (f"      source  {line}" for line in row.sources[: _MAX_SOURCES * source])
        yield from (f"      reason  {reason}" for reason in row.reasons)


def names_text(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(names[:_MAX_NAMES]) or "nothing"
    return shown if len(names) <= _MAX_NAMES else f"{shown} and {len(names) - _MAX_NAMES} more"


def _changes(title: str, rows: Sequence[ChangeRow]) -> Iterator[str]:
    if rows:
        yield f"{title}: {counted(sum(row.count for row in rows), 'node')}"
    for row in rows:
        if row.count > 1:
            yield f"  {_times(row.count, names_text(row.names))}"
        yield f"  ~ {row.names[0]} ({row.op})"
        yield from (f"      {slot}: {before} -> {after}" for slot, before, after in row.changes)
        if row.rule:
            yield f"      rule    {row.rule}"


def _kept(sites: Sequence[Site]) -> Iterator[str]:
    if sites:
        yield f"kept sites: {len(sites)}"
    for row in kept_rows(sites):
        if len(row.sites) > 1:
            yield f"  {_times(len(row.sites), row.caches)}"
        cost = f", {row.size} a step" if row.size else ""
        yield f"  = {row.sites[0].title}, {row.status}{cost}: {row.reason}"
        if row.path:
            head, left_out, tail = path_ends(row.path)
            middle = (f"... {left_out} more ...",) if left_out else ()
            yield f"      pinned by {' -> '.join((*head, *middle, *tail))}"
