"""Many buckets of one model: by several processes, into one folder, with one report."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.fx.passes.infra.pass_base import PassBase

from passes import DeadkvError, PassPipeline
from tracing.backends import TIME_LIMIT_S, get_target
from tracing.buckets.job import BucketModel, Job, Outcome, bucket_folder
from tracing.buckets.pool import compile_all
from tracing.buckets.report import report_of
from tracing.buckets.sharing import SharedArtefacts
from tracing.output import output_folder, remove_leftovers
from tracing.pipeline import check_timeout


@dataclass(frozen=True)
class BucketsResult:
    """What compile_buckets made.

    Attributes:
        outcomes: what came of each bucket, in the order in which they were done.
        report: the content of the whole's `report.json`.
        out_dir: the folder with one folder a bucket.
    """

    outcomes: tuple[Outcome, ...]
    report: dict[str, Any]
    out_dir: Path

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The buckets that failed, from small to large."""
        return tuple(sorted((o for o in self.outcomes if o.error is not None), key=lambda outcome: outcome.bucket))


def compile_buckets(
    build: Callable[[int], BucketModel],
    buckets: Sequence[int],
    *,
    out_dir: str | Path,
    jobs: int = 1,
    passes: Sequence[str | PassBase] = ("prune-prefix-cache",),
    backend: str = "auto",
    target: str = "inf2",
    frontend: str = "make_fx",
    compiler_args: Sequence[str] = (),
    timeout_s: float | None = TIME_LIMIT_S,
    dry_run: bool = False,
    progress: Callable[[Outcome], None] = lambda outcome: None,
) -> BucketsResult:
    """Compiles a model for many buckets, each as `compile_tkg` does one, into `out_dir/bucket-N`.

    Files with the same bytes are hard links to one file, and `out_dir/report.json` tells of all buckets. What is
    written depends on neither `jobs` nor the order of `buckets`. A bucket that fails is named in the report and keeps
    no other from being compiled. A script that calls this needs the `if __name__ == "__main__"` of every program
    that starts processes with multiprocessing's forkserver or spawn. The fork server stays until this process ends.

    Args:
        build: makes the model of a bucket; a function or object that can be pickled.
        buckets: sizes in tokens, all different.
        out_dir: must not exist; it is complete or absent.
        jobs: number of processes, each single-threaded.
        passes, backend, target, frontend, compiler_args, timeout_s, dry_run: as in `compile_tkg`.
        progress: called with what came of each bucket.

    Raises:
        DeadkvError: an argument cannot be used, the folder cannot be written, or no bucket at all compiles.
    """
    _check(buckets, jobs)
    PassPipeline(passes)
    get_target(target)
    check_timeout(timeout_s)
    folder = Path(out_dir)
    job = Job(build, tuple(passes), backend, target, frontend, tuple(compiler_args), timeout_s, dry_run)
    with output_folder(folder) as scratch:
        outcomes, digests = _compile(sorted(buckets), job, scratch, jobs, progress)
        named = tuple(_without_scratch(outcome, scratch, folder) for outcome in outcomes)
        if not digests:
            first = min(named, key=lambda outcome: outcome.bucket)
            raise DeadkvError(f"none of the {len(named)} buckets compiled; bucket {first.bucket}: {first.error}")
        report = report_of(named, digests)
        (scratch / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return BucketsResult(named, report, folder)


def _check(buckets: Sequence[int], jobs: int) -> None:
    if not buckets:
        raise DeadkvError("no bucket was given: name at least one size in tokens")
    bucket, times = Counter(buckets).most_common(1)[0]
    if times > 1:
        raise DeadkvError(f"bucket {bucket} is given {times} times: name each bucket once")
    if jobs < 1:
        raise DeadkvError(f"the number of jobs must be at least 1, not {jobs}")


def _compile(
    buckets: Sequence[int], job: Job, scratch: Path, jobs: int, progress: Callable[[Outcome], None]
) -> tuple[list[Outcome], dict[int, dict[str, str]]]:
    shared = SharedArtefacts()
    outcomes: list[Outcome] = []
    digests: dict[int, dict[str, str]] = {}
    with closing(compile_all(buckets, job, scratch, jobs)) as done:
        for outcome in done:
            outcomes.append(outcome)
            if outcome.error is None:
                digests[outcome.bucket] = shared.add(scratch / bucket_folder(outcome.bucket))
            progress(outcome)
    remove_leftovers(scratch)
    return outcomes, digests


def _without_scratch(outcome: Outcome, scratch: Path, target: Path) -> Outcome:
    """Messages name the folder that the user named."""
    if outcome.error is None:
        return outcome
    return dataclasses.replace(outcome, error=outcome.error.replace(str(scratch), str(target)))
