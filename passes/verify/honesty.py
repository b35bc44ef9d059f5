"""What the report of a run says was done: all of it, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from passes.report import PruneReport, RegionReport, RewriteReport
from passes.verify.judgement import Judge, Judged
from passes.verify.regions import RegionPair
from passes.verify.trail import reject


@dataclass(frozen=True)
class _Change:
    """A nested graph that changed with one call of it.

    Attributes:
        call: names of the calls that lead to it, the call's last, joined by `/`.
        region: the call.
        index: which of its graphs.
        judged: the graph.
    """

    call: str
    region: RegionPair
    index: int
    judged: Judged

    @property
    def key(self) -> tuple[str, str]:
        """What names it in a report."""
        return self.call, self.region.was.bodies[self.index].path


def check_report(judge: Judge, judged: Judged, report: PruneReport) -> None:
    """Rejects a report that leaves out a change, or invents one."""
    _check_graph(judged, report.removed, report.rewritten)
    reported: dict[tuple[str, str], list[RegionReport]] = {}
    for region in report.regions:
        reported.setdefault((region.call, region.body), []).append(region)
    for change in _changes(judge, judged, ()):
        found = reported.get(change.key)
        if not found:
            reject(change.region.was.node, f"its graph {change.key[1]} changed, but the report does not say so")
        _check_region(change, found.pop(0))
    if left := [region for regions in reported.values() for region in regions]:
        reject(None, f"the report says that {left[0].body} changed with {left[0].call}, but it did not")


def _check_graph(judged: Judged, removed: tuple[str, ...], rewritten: Iterable[RewriteReport]) -> None:
    pair, listed = judged.pair, set(removed)
    unreported = [node for node in pair.removed if node.name not in listed]
    if unreported:
        reject(unreported[0], "it was removed, but the report does not say so", pair.within)
    gone = {node.name for node in pair.removed}
    if invented := [name for name in removed if name not in gone]:
        reject(None, f"the report says that %{invented[0]} was removed, but it is still there or never was")
    explained = {rewrite.node for rewrite in rewritten} | {node.name for node in judged.explained}
    for old, _ in pair.edited:
        is_result = pair.is_nested and old.op == "output"
        if old.name not in explained and not is_result and not pair.uses_removed(old):
            reject(old, "its arguments changed, but the report does not say so", pair.within)


def _changes(judge: Judge, judged: Judged, path: tuple[str, ...]) -> Iterator[_Change]:
    """The changed graphs of all calls, in graph order, a call's own before those nested in them."""
    for region in judged.regions:
        name = region.was.node.name
        for index, body in enumerate(region.bodies):
            found = judge.judge(body.before, body.after)
            step = name if len(region.bodies) == 1 else f"{name}.{region.was.bodies[index].path}"
            inner = tuple(_changes(judge, found, (*path, step)))
            if inner or found.pair.removed or found.pair.edited:
                yield _Change("/".join((*path, name)), region, index, found)
                yield from inner


def _check_region(change: _Change, region: RegionReport) -> None:
    pair, results = change.judged.pair, change.region.results
    dropped = tuple(node.name for node in pair.removed if node.op == "placeholder")
    yields = change.index in change.region.was.yielding
    agrees = {
        "path": region.becomes == change.region.now.bodies[change.index].path,
        "inputs": region.operands == dropped,
        "results": results.fit_without(region.results) if yields else not region.results,
    }
    if wrong := [what for what, agreed in agrees.items() if not agreed]:
        reject(change.region.was.node, f"the report is wrong about the {wrong[0]} of its graph {region.body}")
    _check_graph(change.judged, region.removed, region.rewritten)
