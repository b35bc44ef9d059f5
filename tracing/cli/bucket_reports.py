"""The reports of all buckets of a model, found from the output folder of one of them."""

from __future__ import annotations

from pathlib import Path

from passes import DeadkvError
from tracing.buckets.job import bucket_folder
from tracing.buckets.report import SCHEMA
from tracing.graph.json_input import parse_json, read_bytes
from tracing.graph.reasons import Reasons, read_report, reasons


def bucket_reports(path: Path) -> list[tuple[int, Reasons]]:
    """Sizes and reports of the buckets that were compiled together with the graph or folder `path`; none for others.

    Raises:
        DeadkvError: a report is damaged.
    """
    folder = (path if path.is_dir() else path.parent).resolve().parent
    return [(size, found) for size in _sizes(folder / "report.json") if (found := _report(folder, size)) is not None]


def _sizes(file: Path) -> list[int]:
    """The buckets that the report of a compilation of several names; none if `file` is another's."""
    if not file.is_file():
        return []
    try:
        found = parse_json(read_bytes(file))
    except DeadkvError:
        return []
    if not isinstance(found, dict) or found.get("schema") != SCHEMA or not isinstance(found.get("buckets"), list):
        return []
    sizes = [entry.get("bucket") for entry in found["buckets"] if isinstance(entry, dict)]
    return [size for size in sizes if type(size) is int]


def _report(folder: Path, size: int) -> Reasons | None:
    file = folder / bucket_folder(size) / "report.json"
    if not file.is_file():
        return None
    try:
        found = read_report(file)
    except DeadkvError as error:
        raise DeadkvError(f"{file}: {error}") from error
    return None if found is None else reasons(found)
