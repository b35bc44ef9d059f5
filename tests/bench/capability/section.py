"""The tables of the capability benchmark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tests.bench.benchmark import Plot, Section, Series, Table
from tests.bench.capability.peers import BY_KEY

Cells = Mapping[str, Mapping[str, Any]]
Rows = Mapping[str, Mapping[str, Any]]

TEXT = """\
Every case of [cases.md](cases.md), captured once (by make_fx where it can be), given to each tool; and how many gathers
of the pool are left in what the tool makes of it. *Dead* are the gathers that the case table removes, and those that
plain dead-code elimination removes where it is sound; the twins, in italics, hold those that must stay. *More* are
others that a tool removed and whose loss no run showed: merged duplicates, sizes that it has folded.

- *wrong*: the tool's result computes, writes, sends or asserts something else, found by running both (the pool holds a
  NaN). Not run, and so never called wrong, is what {counted} leave, and what JAX and XLA leave of a custom call.
- At torch level FX DCE also deletes live in-place writes; most graphs here are aten ([cases.md](cases.md) has both).
  FX CSE is CSEPass, which merges duplicates and is not meant for graphs with writes. functionalize is
  `torch.func.functionalize` under make_fx, followed by dead-code elimination. Inductor is seen after its post-grad
  passes, before it generates code.
- JAX, XLA and IREE get deadkv's lowering of the unpruned graph, in which a kernel is a custom call; torch-mlir and
  onnxscript the program of torch.export, in which it is an operator of its own.
- The NKI operator of these cases is a stand-in with rules for make_fx only; what functionalizes refuses it.
- *no result*: the tool does not take the graph; the reasons are listed below."""


def section(rows: Rows) -> Section:
    """Of the peers that were measured."""
    counted = [peer.title for peer in BY_KEY.values() if not peer.runs]
    text = TEXT.format(counted=", ".join(counted))
    tables = (_by_peer(rows), _by_row(rows), _reasons(rows), _by_case(rows)) if rows else ()
    return Section("What the pass sees", text, tables, (_plot(rows),) if rows else ())


def _by_peer(rows: Rows) -> Table:
    lines = []
    for key, row in rows.items():
        cells = list(row["cases"].values())
        ran = [cell for cell in cells if cell["failed"] is None]
        lines.append(
            (
                BY_KEY[key].title,
                f"{BY_KEY[key].package} {row['version']}",
                f"{len(ran)}",
                f"{len(cells) - len(ran)}",
                f"{sum(map(_dead, ran))}",
                f"{sum(map(_removed, ran))}",
                f"{sum(map(_more, ran))}",
                f"{sum(cell['wrong'] for cell in ran)}",
            )
        )
    columns = ("tool", "version", "graphs", "no result", "dead gathers in them", "removed", "more", "wrong results")
    return Table("By tool.", columns, tuple(lines))


def _by_row(rows: Rows) -> Table:
    names = list(dict.fromkeys(cell["row"] for row in rows.values() for cell in row["cases"].values()))
    lines = [(name, *(_sum(_of_row(row["cases"], name)) for row in rows.values())) for name in names]
    caption = (
        "Dead gathers left, of how many, by row of the case table; `!n`: n wrong results among its graphs and twins; "
        "`?n`: n graphs without a result."
    )
    return Table(caption, ("row", *_titles(rows)), tuple(lines))


def _by_case(rows: Rows) -> Table:
    cases: Cells = next(iter(rows.values()))["cases"]
    lines = [
        (_title(case), cell["level"], f"{cell['gathers']}", f"{cell['needed']}", *_left(case, rows))
        for case, cell in cases.items()
    ]
    caption = "Gathers left in each graph. `!`: the result is wrong; `?`: no result."
    return Table(caption, ("case", "level", "gathers", "must stay", *_titles(rows)), tuple(lines))


def _reasons(rows: Rows) -> Table:
    lines = [
        (BY_KEY[key].title, f"{count}", f"`{why.replace('`', chr(39))}`")
        for key, row in rows.items()
        for why, count in Counter(cell["failed"] for cell in row["cases"].values() if cell["failed"]).most_common()
    ]
    return Table("Why there is no result.", ("tool", "graphs", "reason"), tuple(lines))


def _plot(rows: Rows) -> Plot:
    parts: Mapping[str, Callable[[Iterable[Mapping[str, Any]]], int]] = {
        "removed": lambda cells: sum(_removed(cell) for cell in cells if cell["failed"] is None),
        "left": lambda cells: sum(_dead(cell) - _removed(cell) for cell in cells if cell["failed"] is None),
        "no result": lambda cells: sum(_dead(cell) for cell in cells if cell["failed"] is not None),
    }
    series = tuple(
        Series(label, tuple((BY_KEY[key].title, part(row["cases"].values())) for key, row in rows.items()))
        for label, part in parts.items()
    )
    return Plot("capability", "Dead gathers of the case table, by tool", "", "gathers", series, kind="bars")


def _titles(rows: Rows) -> Iterable[str]:
    return [BY_KEY[key].title for key in rows]


def _of_row(cases: Cells, name: str) -> list[Mapping[str, Any]]:
    return [cell for cell in cases.values() if cell["row"] == name]


def _sum(cells: list[Mapping[str, Any]]) -> str:
    ran = [cell for cell in cells if cell["failed"] is None]
    dead = sum(map(_dead, ran))
    wrong, failed = sum(cell["wrong"] for cell in ran), len(cells) - len(ran)
    count = f"{dead - sum(map(_removed, ran))} of {dead}" if dead else ""
    return " ".join(filter(None, (count, f"!{wrong}" * bool(wrong), f"?{failed}" * bool(failed)))) or "0 of 0"


def _dead(cell: Mapping[str, Any]) -> int:
    return int(cell["gathers"] - cell["needed"])


def _removed(cell: Mapping[str, Any]) -> int:
    """At most those that are dead: what goes beyond is wrong, or an improvement of live code."""
    return min(_dead(cell), max(0, int(cell["gathers"] - cell["left"])))


def _more(cell: Mapping[str, Any]) -> int:
    return 0 if cell["wrong"] else max(0, int(cell["needed"] - cell["left"]))


def _left(case: str, rows: Rows) -> Iterable[str]:
    for row in rows.values():
        cell = row["cases"][case]
        yield "?" if cell["failed"] else f"{cell['left']}{'!' if cell['wrong'] else ''}"


def _title(case: str) -> str:
    row, form = case.split("-", 1)
    title = f"{row}: {form.removeprefix('twin_').strip('_').replace('_', ' ')}"
    return f"*{title}*" if form.startswith("twin_") else title
