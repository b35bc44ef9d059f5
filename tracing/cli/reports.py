"""Prints a pruning report."""

from __future__ import annotations

from collections import Counter

from passes import PruneReport, SiteReport
from passes.report import readable_bytes
from tracing.cli.terminal import print_table, stdout


def print_sites(report: PruneReport) -> None:
    """One line for each site: layer, role, status, bytes a step, reason; a live one with its pin path."""
    rows = [_row(site) for site in report.sites]
    print_table(("layer", "role", "cache", "status", "a step", "why"), rows)


def _row(site: SiteReport) -> tuple[str, ...]:
    why = site.reason
    if site.pinned_by:
        why = f"{why} [{_path(site.pinned_by)}]"
    return str(site.layer), site.role, site.cache, site.status, readable_bytes(site.bytes), why


def _path(names: tuple[str, ...]) -> str:
    """A pin path; the middle of a long one is left out (report.json has all of it)."""
    shown = names if len(names) <= 8 else (*names[:4], f"... {len(names) - 7} more ...", *names[-3:])
    return " -> ".join(shown)


def print_summary(report: PruneReport) -> None:
    """The headline, and for sites that stayed one line a reason, the first such site named."""
    console = stdout()
    console.print(report.headline)
    for note in report.notes:
        console.print(note if report.sites else f"no site: {note}")
    stayed = [site for site in report.sites if site.status in ("kept", "live")]
    for status, count in sorted(Counter(site.status for site in stayed).items()):
        first = next(site for site in stayed if site.status == status)
        console.print(
            f"{status}: {count} of {len(report.sites)} sites; layer {first.layer} {first.role}: {first.reason}"
        )
    if report.unused_inputs:
        console.print(f"inputs left without a use (they stay in the signature): {', '.join(report.unused_inputs)}")
