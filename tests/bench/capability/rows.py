"""One row for each peer: what it makes of every case."""

from __future__ import annotations

import os
from collections.abc import Mapping

from tests.bench.benchmark import Benchmark, Data, Row, Section, Skipped
from tests.bench.capability.peers import BY_KEY, PEERS


class Capability(Benchmark):
    """Gathers that each peer leaves of each case of the case table."""

    name = "capability"
    title = "What the pass sees that others miss: every case of docs/cases.md by every peer"

    def keys(self) -> tuple[str, ...]:
        """The peers."""
        return tuple(peer.key for peer in PEERS)

    def measure(self, key: str) -> Mapping[str, Data]:
        """The peer's version and, for each case, what it left. Raises Skipped if the peer is not installed."""
        peer = BY_KEY[key]
        version = peer.version()
        if version is None:
            raise Skipped(f"{peer.package} is not installed: {peer.install}")
        from tests.bench.capability.subjects import subjects
        from tests.bench.capability.workers import run

        known = list(subjects())
        cells = run(key, [subject.id for subject in known], os.cpu_count() or 1)
        return {
            "version": version,
            "cases": {
                subject.id: {
                    "row": subject.case.row,
                    "level": subject.level,
                    "gathers": subject.case.before,
                    "needed": subject.needed,
                    **cells[subject.id],
                }
                for subject in known
            },
        }

    def section(self, rows: Mapping[str, Row]) -> Section:
        """A summary by peer, by row of the case table and by case."""
        from tests.bench.capability.section import section

        return section({key: row.values for key, row in rows.items() if row.skipped is None})
