"""What one entry of the case table is, and the registry that all of them are in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

Body = Callable[..., Any]

ROWS: Mapping[str, str] = {
    "zero_user": "Nothing uses the site.",
    "opaque_operand": "A kernel takes the site, and its contract says that it does not read it.",
    "submodule_operand": "A GraphModule that is called as a submodule takes the site and ignores it.",
    "invoke_subgraph": "The same of a region, `invoke_subgraph`.",
    "cond": "The branches of `cond` take the site and ignore it.",
    "scan_carry": "What `scan` carries, or scans over, feeds only itself.",
    "while_carry": "What `while_loop` carries feeds only itself.",
    "tuple_element": "No caller uses the result of a nested graph that is computed from the site.",
    "shape_only": "Only the shape of the site is used.",
    "like_factory": "A new tensor takes shape and dtype of the site.",
    "expand_as": "Another tensor takes the shape or dtype of the site.",
    "dead_store": "Tensors are written into the gathered copy, which nothing reads.",
    "dead_custom_store": "The same by a kernel whose contract says what it writes.",
    "marker_lane": "A boundary marker hands the site on, and nothing reads that lane.",
    "assert_only": "Something is asserted of the site's metadata that the trace has proven.",
    "index_chain": "Only the site uses the index arithmetic before it.",
    "dequantize": "The pool is cast and scaled before it is gathered.",
    "duplicate": "The pool is gathered again by the same blocks, and all copies are read (`dedup-prefix-cache`).",
    "dead_inputs": "Inputs lose their last use (`shrink_inputs`); the twins keep all three.",
    "cache_write": "Control: a cache write whose result is unused stays; the dead gather beside it goes.",
    "nki_write": "Control: the same of an NKI kernel, whose writes only `operand_output_aliases` shows.",
    "value_neutral": "Control: `x * 0` stays, since NaN and Inf come through.",
    "collective": "Control: what passes through a collective stays; ranks must agree.",
}
"""The rows in the order of the table, and what each is about."""
PRUNE, DEDUP = "prune-prefix-cache", "dedup-prefix-cache"
LEVELS = ("fx", "dynamo", "export", "make_fx", "built")
"""torch.fx.symbolic_trace, the three frontends of `tracing.capture`, and aten graphs that are built by hand."""
TRACED = ("fx", "dynamo", "export", "make_fx")
NOT_FX = ("dynamo", "export", "make_fx")
"""symbolic_trace refuses item assignment, loops and branches, and makes a tensor made in the function a constant."""
ROWS_THAT_PLAIN_DCE_KEEPS = frozenset(
    "opaque_operand submodule_operand invoke_subgraph cond scan_carry while_carry tuple_element dead_custom_store "
    "marker_lane duplicate".split()
)
"""Rows whose sites a dead-code elimination must understand a call to see."""
TORCH_LEVEL = ("fx", "dynamo")
"""Graphs of calls of tensor methods, which plain dead-code elimination takes for pure."""


@dataclass(frozen=True, eq=False)
class Case:
    """One form of one row.

    Attributes:
        row: id of the row.
        form: what distinguishes this form. A form named `twin_*` shows what must stay.
        body: the function that is traced; at level "built", a function of a `CaseBuilder` and its inputs.
        goes: every site must be removed (True) or must stay (False).
        before: number of sites.
        after: number of sites that must be left, if that is neither none nor all of them.
        plain: number of sites that plain dead-code elimination leaves, by level (or "*", or "level@2.9" for one torch
            release), where that is not what one would expect of the row: all of them if it cannot see them, else none.
        unsound: levels at which plain dead-code elimination also changes what the graph computes or does.
        policy: the policy under which this is expected.
        pass_name: the pass of which this is expected.
        static: it is expected only where the trace recorded shapes, which symbolic_trace does not.
        levels: the levels at which it can be written.
        inputs: number of inputs that must be left, out of three.
        options: further options of the pass.
    """

    row: str
    form: str
    body: Body
    goes: bool
    before: int = 1
    after: int | None = None
    plain: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    unsound: tuple[str, ...] = ()
    policy: str = "liveness"
    pass_name: str = PRUNE
    static: bool = False
    levels: tuple[str, ...] = TRACED
    inputs: int = 3
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def id(self) -> str:
        """`row-form`."""
        return f"{self.row}-{self.form}"

    @property
    def is_twin(self) -> bool:
        """Whether it shows what must stay."""
        return self.form.startswith("twin_")

    def left(self, level: str) -> int:
        """Number of sites that the pass must leave."""
        if self.static and level == "fx":
            return self.before
        if self.after is not None:
            return self.after
        return 0 if self.goes else self.before

    def left_by_plain_dce(self, level: str, release: str) -> int:
        """Number of sites that plain dead-code elimination of a torch release, such as "2.9", leaves."""
        keeps = self.row in ROWS_THAT_PLAIN_DCE_KEEPS or not self.goes
        otherwise = self.plain.get("*", self.before if keeps else 0)
        return self.plain.get(f"{level}@{release}", self.plain.get(level, otherwise))


CASES: list[Case] = []


def case(row: str, form: str, *, goes: bool, **options: Any) -> Callable[[Body], Body]:
    """Adds a function to the table. One function may be several cases."""

    def add(body: Body) -> Body:
        CASES.append(Case(row, form, body, goes, **options))
        return body

    return add


def built(row: str, form: str, *, goes: bool, **options: Any) -> Callable[[Body], Body]:
    """Adds a function that builds a graph by hand."""
    return case(row, form, goes=goes, levels=("built",), **options)
