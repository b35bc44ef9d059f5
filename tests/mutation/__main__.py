"""Mutates files of `passes`, runs their tests, prints the score: `python -m tests.mutation [FILE ...]`."""

from __future__ import annotations

import argparse
import json
import os
import pickle
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.mutation.equivalent import argued
from tests.mutation.mutants import Mutant, sample
from tests.mutation.runner import Baseline, Choice, Mutation

FILES = (
    "removal.py frame_change.py surgery.py plan.py calls.py facts.py frames.py storage.py pins.py modules.py "
    "rewrites.py shrink.py walks.py well_formed.py fake_runs.py "
    "demand/*.py regions/*.py ops/effects.py ops/schema.py ops/signature.py ops/nki.py sites/*.py"
).split()
TESTS = (
    "cases prune regions verify verify_regions shrink symbolic policy nki_calls inference interface paired_regions "
    "pipeline dedup bad_contracts registry call_binding structure gather_spellings "
    "call_effects cone pin_paths nested_sites anchors metadata_rewrites region_binding storage_classes surgery"
).split()
CONE = "tests/fuzz/test_cone.py"
PYTEST = [
    *(f"tests/test_{name}.py" for name in TESTS),
    CONE,
    "-p",
    "no:cacheprovider",
    "-p",
    "no:terminal",
    "-o",
    "addopts=",
]
WANTED = 0.9


def main() -> None:
    """Exits with 1 if fewer than 90 % of the mutants that are not argued to be equivalent were killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("files", nargs="*", help="files of passes/ (default: analysis and surgery)")
    parser.add_argument("--sample", type=int, default=12, help="mutants of each file (default 12)")
    parser.add_argument("--seed", type=int, default=1, help="another seed draws other mutants (default 1)")
    parser.add_argument("--budget", type=float, default=60, help="seconds of tests for each mutant (default 60)")
    parser.add_argument("--out", type=Path, default=Path("out/mutation"), help="folder of results.json")
    parser.add_argument("--go-on", action="store_true", help="do not run again what the last run killed")
    parser.add_argument("--reuse", action="store_true", help="do not measure again which test runs which line")
    given = parser.parse_args()
    files = given.files or sorted(str(path) for name in FILES for path in Path("passes").glob(name))
    given.out.mkdir(parents=True, exist_ok=True)
    mutants = [mutant for path in files for mutant in sample(path, given.sample, given.seed)]
    if not given.reuse:
        _measure(given.out / "baseline.pickle")
    choice = Choice(*pickle.loads((given.out / "baseline.pickle").read_bytes()), given.budget)
    _print(_run(mutants, choice, given.out / "results.json", go_on=given.go_on))


def _measure(baseline: Path) -> None:
    """In a process of its own, so that this one imports `passes` as it is, without coverage."""
    child = os.fork()
    if child == 0:
        plugin = Baseline()
        with plugin.coverage.collect():
            pytest.main(PYTEST, plugins=[plugin])
        for test in sorted(plugin.failed):
            print(f"left out, for it fails without any mutation: {test}", flush=True)
        passed = {test: seconds for test, seconds in plugin.seconds.items() if test not in plugin.failed}
        baseline.write_bytes(pickle.dumps((passed, plugin.lines())))
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        raise SystemExit("the tests could not be run")


def _run(mutants: list[Mutant], choice: Choice, results: Path, *, go_on: bool) -> list[dict[str, Any]]:
    old = json.loads(results.read_text()) if go_on else []
    killed = {_key(row): row for row in old if row["killed_by"]}
    rows = [killed[_key(vars(mutant))] for mutant in mutants if _key(vars(mutant)) in killed]

    def report(mutant: Mutant, killer: str) -> None:
        row = {name: value for name, value in vars(mutant).items() if name != "source"}
        rows.append({**row, "killed_by": killer, "argued": argued(mutant)})
        results.write_text(json.dumps(rows, indent=1))
        if not killer and not argued(mutant):
            print(f"{mutant.path}:{mutant.line}: {mutant.before}\n    {mutant.after}", flush=True)

    left = [mutant for mutant in mutants if _key(vars(mutant)) not in killed]
    pytest.main(PYTEST, plugins=[Mutation(choice, left, report)])
    return rows


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    return row["path"], row["operator"], row["before"], row["after"]


def _print(rows: list[dict[str, Any]]) -> None:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        outcome = "killed" if row["killed_by"] else "argued" if row["argued"] else "survived"
        counts[row["path"]][outcome] += 1
    counts = dict(sorted(counts.items()))
    total = sum(counts.values(), Counter())
    for path, found in {**counts, "all": total}.items():
        figures = " | ".join(str(found[outcome]) for outcome in ("killed", "survived", "argued"))
        print(f"| {path} | {figures} | {_score(found):.0%} |")
    raise SystemExit(_score(total) < WANTED)


def _score(found: Counter[str]) -> float:
    return found["killed"] / (found["killed"] + found["survived"] or 1)


if __name__ == "__main__":
    main()
