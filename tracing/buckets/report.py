"""The one report of many buckets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tracing.buckets.job import Outcome, bucket_folder

SCHEMA = "deadkv.buckets/1"
_SUMS = ("gathers_before", "gathers_after", "nodes_before", "nodes_after", "bytes_before", "bytes_after")


def report_of(outcomes: Sequence[Outcome], digests: Mapping[int, Mapping[str, str]]) -> dict[str, Any]:
    """The JSON of the whole's `report.json`: buckets from small to large, so the order they were done in is not seen.

    outcomes: what came of each bucket. digests: SHA-256 of each artefact by path in the bucket's folder, by bucket.
    """
    ordered = sorted(outcomes, key=lambda outcome: outcome.bucket)
    return {
        "schema": SCHEMA,
        "summary": _summary(ordered, digests),
        "buckets": [_entry(outcome, digests.get(outcome.bucket, {})) for outcome in ordered],
    }


def _summary(outcomes: Sequence[Outcome], digests: Mapping[int, Mapping[str, str]]) -> dict[str, int | None]:
    artefacts = [digest for of_bucket in digests.values() for digest in of_bucket.values()]
    failed = sum(outcome.error is not None for outcome in outcomes)
    return {
        "buckets": len(outcomes),
        "compiled": len(outcomes) - failed,
        "failed": failed,
        **{name: _sum(outcomes, name) for name in _SUMS},
        "artefacts": len(artefacts),
        "distinct_artefacts": len(set(artefacts)),
    }


def _sum(outcomes: Sequence[Outcome], name: str) -> int | None:
    """Over the buckets that were pruned; None if it is unknown for one of them."""
    values = [outcome.summary[name] for outcome in outcomes if outcome.summary is not None]
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _entry(outcome: Outcome, artefacts: Mapping[str, str]) -> dict[str, Any]:
    compiled = outcome.error is None
    return {
        "bucket": outcome.bucket,
        "status": "compiled" if compiled else "failed",
        "error": outcome.error,
        "folder": bucket_folder(outcome.bucket).as_posix() if compiled else None,
        "summary": None if outcome.summary is None else dict(outcome.summary),
        "backend": None if outcome.backend is None else dict(outcome.backend),
        "artefacts": dict(artefacts),
    }
