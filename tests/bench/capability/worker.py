"""The process that runs one peer: takes ids of cases on stdin, a line each, and answers with a line of JSON each."""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from tests.bench.capability.peers import BY_KEY
from tests.bench.capability.subjects import Subject, subjects
from tests.cases.measure import process_group

ADDRESS, LONGEST = re.compile("0x[0-9a-f]+"), 160
"""What differs from run to run in a reason, and its length in characters."""


@dataclass(frozen=True)
class Cell:
    """What a peer made of one case.

    Attributes:
        left: number of gathers, or None if it failed.
        wrong: it changed what the graph does.
        failed: why there is no result: one line of the error.
    """

    left: int | None
    wrong: bool
    failed: str | None


def main(key: str) -> None:
    """Answers until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    peer, known = BY_KEY[key].load(), {subject.id: subject for subject in subjects()}
    torch.manual_seed(0)
    for line in sys.stdin:
        print(json.dumps(asdict(cell(peer, known[line.strip()]))), file=answers, flush=True)


def cell(peer: Callable[[Subject], Any], subject: Subject) -> Cell:
    """Runs a peer on a case; whatever it raises is the reason that it failed."""
    try:
        with process_group():
            outcome = peer(subject)
            return Cell(outcome.left, outcome.is_wrong(subject), None)
    except Exception as error:
        return Cell(None, False, one_line(error))


def one_line(error: BaseException) -> str:
    """Type and first line of the error that an error came from."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return ADDRESS.sub("0x...", text)[:LONGEST]


if __name__ == "__main__":
    main(sys.argv[1])
