"""The case table as markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from tests.cases.case import CASES, LEVELS, ROWS, Case
from tests.cases.counts import Counts

Count = Callable[[Case, str], Counts]

INTRODUCTION = """\
# Cases

What the pass removes, what it keeps, and what plain dead-code elimination (`torch.fx.Graph.eliminate_dead_code`) does
with the same graph. Each cell counts gathers of a block cache: before / after plain dead-code elimination / after the
pass. Each form is written once and captured at each level on which it can be written: `fx` is
`torch.fx.symbolic_trace`, `dynamo`, `export` and `make_fx` are the frontends of `tracing.capture`, `built` is an aten
graph built by hand. symbolic_trace records no shapes, so what needs them stays there.

A twin, in italics, differs in one point and must stay. A `!` says that plain dead-code elimination also changed what
the graph computes, writes, sends or asserts. The policy is `liveness` unless the form says otherwise. What the pass
leaves is run on the same inputs as the graph before, a NaN among them, and every output and every written tensor is
compared bit for bit.

`python -m tests.cases` runs all of them and prints this file ({release}).
"""


def markdown(count: Count, release: str) -> str:
    """The table with the counts of `count`, for a torch release."""
    parts = [INTRODUCTION.format(release=f"torch {release}"), _summary(count)]
    for row, meaning in ROWS.items():
        cases = sorted((case for case in CASES if case.row == row), key=lambda case: case.is_twin)
        parts.append(f"## {row}\n\n{meaning}\n\n{_table(_merged(cases), count)}")
    return "\n".join(parts)


def _merged(cases: Iterable[Case]) -> dict[str, list[Case]]:
    forms: dict[str, list[Case]] = {}
    for case in cases:
        forms.setdefault(case.form, []).append(case)
    return forms


def _table(forms: dict[str, list[Case]], count: Count) -> str:
    lines = [_line(["form", *LEVELS]), _line(["---"] * (len(LEVELS) + 1))]
    for form, cases in forms.items():
        by_level = {level: case for case in cases for level in case.levels}
        cells = (_cell(count(by_level[level], level)) if level in by_level else "" for level in LEVELS)
        lines.append(_line([_title(form), *cells]))
    return "".join(lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _title(form: str) -> str:
    title = form.removeprefix("twin_").strip("_").replace("_", " ")
    return f"*{title}*" if form.startswith("twin_") else title


def _cell(counts: Counts) -> str:
    return f"{counts.before} / {counts.plain}{'' if counts.plain_is_sound else '!'} / {counts.after}"


def _summary(count: Count) -> str:
    found = [(case, count(case, level)) for case, level in all_levels()]
    total, dead = sum(c.before for _, c in found), sum(c.before - c.after for _, c in found)
    seen = sum(min(c.before - c.plain, c.before - c.after) for _, c in found)
    wrong = sum(not c.plain_is_sound for _, c in found)
    return (
        f"{len(CASES)} forms, {len(found)} graphs, {total} gathers: the pass removes {dead} of them.\n"
        f"Plain dead-code elimination removes {seen} of these, and changes what {wrong} graphs do.\n"
    )


def all_levels() -> Iterator[tuple[Case, str]]:
    """Every case at every level on which it can be written, in the order of the table."""
    order = list(ROWS)
    for case in sorted(CASES, key=lambda case: order.index(case.row)):
        for level in case.levels:
            yield case, level
