"""The tables, the plots and the goals of the measured rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from tests.bench.benchmark import Plot, Section, Series, Table

Values = Mapping[str, Any]
Rows = Mapping[str, Values]

TEXT = """\
The pass against the work that surrounds it, on the same graph in one process: the decoder of Llama-3.1-405B's geometry
at 16, 80, 126 (the model's own) and 560 layers, whose gathers have no user, and chains of attention layers in which
each gather is an operand that the attention op does not read. Times are the least of several runs with the garbage
collector off; whatever edits gets a fresh copy, made outside the clock. `find, prove` is the analysis, `sever, sweep`
the edit of the graph, `verify` the independent verifier. `pipeline` is all of it at once, with a copy of the graph,
report and recompile; `files` the graphs, their diff and the reports that `deadkv compile` writes. A dash: not measured
at that size.

The pass looks only at what a site can reach: about one node in five of the decoder, three in four of the chains, which
are its worst case. Each of these is looked up, followed and perhaps erased, and the call of a kernel is bound to its
contract, which costs several times what dead-code elimination spends on a node that it keeps. Most of the pipeline is
torch.fx's own copy of the graph and generation of its code. Capture is torch's proxies and fake tensors."""

STEPS = {"analyze": "find, prove", "edit": "sever, sweep", "verify": "verify", "report": "report"}
AGAINST_DCE = ("decoder/126", "decoder/560", "chain/9000", "chain/35000")
OTHERS = {"dce": "eliminate_dead_code", "cse": "CSEPass", "lint": "lint", "recompile": "recompile"}


def section(rows: Rows) -> Section:
    """Of the rows that were measured."""
    tables = _times(rows), _ratios(rows), _memory(rows), _goals(rows)
    return Section("What the pass costs", TEXT, tables, tuple(_plots(rows)))


def _times(rows: Rows) -> Table:
    names = {**STEPS, **OTHERS, "pipeline": "pipeline", "files": "files"}
    lines = [
        (
            key,
            f"{row['nodes']:,}",
            f"{row['removed']:,}",
            *(_ms(_wall(row, name)) for name in names),
            _ms(_capture(row)),
        )
        for key, row in rows.items()
    ]
    return Table("Milliseconds.", ("graph", "nodes", "removed", *names.values(), "capture"), tuple(lines))


def _ratios(rows: Rows) -> Table:
    wanted: Mapping[str, Callable[[Values], float | None]] = {
        "find to sweep": _find_to_sweep,
        "with verify": _with_verify,
        **{label: partial(_wall, name=name) for name, label in OTHERS.items() if name != "dce"},
        "capture": _capture,
    }
    lines = [
        (key, *(_times_over(part(row), _wall(row, "dce")) for part in wanted.values()), _per_node(row))
        for key, row in rows.items()
    ]
    columns = ("graph", *wanted, "find to sweep, µs a node")
    return Table("As multiples of `Graph.eliminate_dead_code` on the same graph.", columns, tuple(lines))


def _memory(rows: Rows) -> Table:
    names = {"pass": "pass, in place", "verify": "verify", "dce": "eliminate_dead_code"}
    lines = [
        (key, f"{row['nodes']:,}", *(f"{row['peak_mb'][name]:.1f}" for name in names))
        for key, row in rows.items()
        if row["peak_mb"] is not None
    ]
    caption = "Peak memory beside the graph, in MB of Python's allocator; recompiling is part of the pass."
    return Table(caption, ("graph", "nodes", *names.values()), tuple(lines))


def _goals(rows: Rows) -> Table:
    chains = [row for key, row in rows.items() if key.startswith("chain/") and row["nodes"] >= 10_000]
    goals = [
        *(_dce_goal(rows, key, "find to sweep", _find_to_sweep, 0.5) for key in AGAINST_DCE),
        *(_dce_goal(rows, key, "with verify", _with_verify, 1.0) for key in AGAINST_DCE),
        ("time a node, largest over smallest, chains of 10,000 nodes up", _spread(chains), 1.5),
        *(_capture_goal(key, row) for key, row in rows.items() if key.startswith("decoder/")),
    ]
    lines = [(what, f"{limit:g}", _ratio(found), _met(found, limit)) for what, found, limit in goals]
    return Table("Goals.", ("what", "at most", "found", ""), tuple(lines))


def _dce_goal(
    rows: Rows, key: str, name: str, part: Callable[[Values], float], limit: float
) -> tuple[str, float | None, float]:
    row = rows.get(key)
    found = None if row is None else part(row) / (_wall(row, "dce") or 1)
    return f"{name} over eliminate_dead_code, {key}", found, limit


def _capture_goal(key: str, row: Values) -> tuple[str, float | None, float]:
    total, capture = (_wall(row, "pipeline") or 0) + (_wall(row, "files") or 0), _capture(row)
    return f"pipeline and files over capture, {key}", None if capture is None else total / capture, 0.05


def _spread(rows: Sequence[Values]) -> float | None:
    """None unless there are two sizes to compare."""
    each = [_find_to_sweep(row) / row["nodes"] for row in rows]
    return max(each) / min(each) if len(each) > 1 else None


def _plots(rows: Rows) -> Iterable[Plot]:
    chains = [row for key, row in rows.items() if key.startswith("chain/")]
    if len(chains) > 1:
        yield Plot(
            "cost-by-size", "Chains: time by number of nodes", "nodes", "milliseconds",
            tuple(_lines(chains)), log_x=True, log_y=True,
        )  # fmt: skip
    decoders = {key.removeprefix("decoder/"): row for key, row in rows.items() if key.startswith("decoder/")}
    if decoders:
        yield Plot(
            "cost-of-decoders", "Llama-3.1-405B: time by number of layers", "layers", "milliseconds",
            tuple(_bars(decoders)), kind="bars", log_y=True,
        )  # fmt: skip


def _lines(chains: Sequence[Values]) -> Iterable[Series]:
    parts: Mapping[str, Callable[[Values], float | None]] = {
        "find to sweep": _find_to_sweep,
        **{label: partial(_wall, name=name) for name, label in {"verify": "verify", **OTHERS}.items()},
    }
    for label, part in parts.items():
        points = ((row["nodes"], part(row)) for row in chains)
        yield Series(label, tuple((x, y) for x, y in points if y is not None))


def _bars(decoders: Rows) -> Iterable[Series]:
    parts: Mapping[str, Callable[[Values], float | None]] = {
        "find to sweep": _find_to_sweep,
        "verify": partial(_wall, name="verify"),
        "eliminate_dead_code": partial(_wall, name="dce"),
        "recompile": partial(_wall, name="recompile"),
        "CSEPass": partial(_wall, name="cse"),
        "capture": _capture,
    }
    for label, part in parts.items():
        yield Series(label, tuple((layers, part(row) or 0) for layers, row in decoders.items()))


def _find_to_sweep(row: Values) -> float:
    return (_wall(row, "analyze") or 0) + (_wall(row, "edit") or 0)


def _with_verify(row: Values) -> float:
    return _find_to_sweep(row) + (_wall(row, "verify") or 0)


def _wall(row: Values, name: str) -> float | None:
    found = row["times"].get(name)
    return None if found is None else float(found["wall_ms"])


def _capture(row: Values) -> float | None:
    return None if row["capture"] is None else float(row["capture"]["wall_ms"])


def _ms(found: float | None) -> str:
    return "-" if found is None else f"{found:,.2f}" if found < 10 else f"{found:,.0f}"


def _times_over(found: float | None, base: float | None) -> str:
    return "-" if found is None or not base else f"{found / base:.2f}"


def _per_node(row: Values) -> str:
    return f"{1e3 * _find_to_sweep(row) / row['nodes']:.2f}"


def _ratio(found: float | None) -> str:
    return "-" if found is None else f"{found:.3f}"


def _met(found: float | None, limit: float) -> str:
    return "not measured" if found is None else "met" if found <= limit else "missed"
