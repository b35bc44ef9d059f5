"""`python -m tests.cases` runs every case and prints the table, as it is in docs/cases.md."""

from __future__ import annotations

import sys

import torch

from tests.cases import Case
from tests.cases.counts import Counts, torch_release
from tests.cases.measure import measure
from tests.cases.render import all_levels, markdown
from tracing.capture import spinner


def main() -> None:
    """Prints the table. Raises AssertionError if the pass changes what a graph computes."""
    found: dict[tuple[Case, str], Counts] = {}
    with spinner("cases") as show:
        for case, level in all_levels():
            show(f"{case.id} {level}")
            torch._dynamo.reset()
            found[case, level] = measure(case, level).counts
    sys.stdout.write(markdown(lambda case, level: found[case, level], torch_release()))


if __name__ == "__main__":
    main()
