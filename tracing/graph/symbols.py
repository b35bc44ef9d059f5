"""Symbolic sizes: canonical names on the way out, and a parser that builds sympy without evaluating any text."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping, Set
from functools import lru_cache
from typing import Any

import sympy
from torch.utils._sympy import functions as torch_functions

from passes.errors import DeadkvError
from tracing.graph.escape import quoted
from tracing.graph.expression_cost import check_cost
from tracing.graph.limits import MAX_EXPRESSION, MAX_TOKENS
from tracing.graph.natural import natural

_MAX_NUMBER = 2**64
_SYMBOL = re.compile(r"(s|u|zf|zuf)(\d{1,9})")
_TOKEN = re.compile(r"\b(?:s|u|zf|zuf)\d{1,9}\b")
_SYNTAX = re.compile(
    r"[A-Za-z_][A-Za-z0-9_]*|(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?(?![A-Za-z0-9_.])|[-+*/%(),<>=!&|~]| +", re.ASCII
)

_LOGIC = ("Eq", "Ne", "And", "Or", "Not")
_NUMERIC = (
    "BitwiseFn_bitwise_and", "BitwiseFn_bitwise_or", "CeilToInt", "FloatPow", "FloatTrueDiv", "FloorToInt", "Identity",
    "IntTrueDiv", "Max", "Min", "PowByNatural", "RoundDecimal", "RoundToInt", "ToFloat", "TruncToFloat", "TruncToInt",
)  # fmt: skip
_INTEGER = ("CleanDiv", "FloorDiv", "Mod", "ModularIndexing", "PythonMod")


def _of_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    def checked(*operands: Any) -> Any:
        if not all(isinstance(operand, sympy.Expr) for operand in operands):
            raise ValueError
        return function(*operands)

    return checked


def _of_integers(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` for integers only: sympy takes seconds to find common divisors of anything else."""

    def checked(*operands: Any) -> Any:
        if not all(operand.is_integer for operand in operands):
            raise ValueError
        return function(*operands)

    return checked


def _torch(names: tuple[str, ...]) -> dict[str, Callable[..., Any]]:
    return {name: getattr(torch_functions, name) for name in names if hasattr(torch_functions, name)}


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(sympy, name) for name in _LOGIC},
    **{name: _of_numbers(function) for name, function in _torch(_NUMERIC).items()},
    **{name: _of_integers(function) for name, function in _torch(_INTEGER).items()},
    **_torch(("Where",)),
}

_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: _of_numbers(operator.add),
    ast.Sub: _of_numbers(operator.sub),
    ast.Mult: _of_numbers(operator.mul),
    ast.Div: _of_numbers(operator.truediv),
    ast.FloorDiv: _of_integers(torch_functions.FloorDiv),
    ast.Mod: _of_integers(torch_functions.Mod),
    ast.Pow: _of_numbers(operator.pow),
    ast.BitAnd: sympy.And,
    ast.BitOr: sympy.Or,
    ast.USub: _of_numbers(operator.neg),
    ast.Invert: sympy.Not,
    ast.Eq: sympy.Eq,
    ast.NotEq: sympy.Ne,
    ast.Lt: _of_numbers(sympy.StrictLessThan),
    ast.LtE: _of_numbers(sympy.LessThan),
    ast.Gt: _of_numbers(sympy.StrictGreaterThan),
    ast.GtE: _of_numbers(sympy.GreaterThan),
}


def symbol(name: str) -> sympy.Symbol:
    """The sympy symbol of a canonical name, with torch's assumptions: sN is a positive size, uN an unbacked int."""
    match = _SYMBOL.fullmatch(name)
    if match is None:
        raise ValueError
    if match[1] == "s":
        return sympy.Symbol(name, integer=True, positive=True)
    return sympy.Symbol(name, integer=True) if match[1] == "u" else sympy.Symbol(name, real=True)


def _number(value: object) -> sympy.Expr:
    if isinstance(value, bool):
        return sympy.true if value else sympy.false
    if isinstance(value, int) and abs(value) <= _MAX_NUMBER:
        return sympy.Integer(value)
    if isinstance(value, float):
        return sympy.Float(value)
    raise ValueError


def _build(tree: ast.AST) -> Any:
    match tree:
        case ast.Constant(value=value):
            return _number(value)
        case ast.Name(id=name):
            return symbol(name)
        case ast.UnaryOp(op=op, operand=operand):
            return _OPERATORS[type(op)](_build(operand))
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATORS[type(op)](_build(left), _build(right))
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _OPERATORS[type(op)](_build(left), _build(right))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
            return _FUNCTIONS[name](*map(_build, args))
    raise ValueError


@lru_cache(maxsize=4096)
def parse(text: str) -> sympy.Expr:
    """The sympy expression that `text` writes.

    Raises DeadkvError if it is anything but an expression of canonical symbols, numbers and known functions, or could
    grow beyond the limits.
    """
    try:
        tree = _syntax(text)
        check_cost(tree)
        return _build(tree)
    except Exception as error:  # whatever sympy or the parser makes of hostile text, the answer is one line
        raise DeadkvError(f"{quoted(text)} is not a symbolic expression over s0, s1, ..., u0, u1, ...") from error


def _syntax(text: str) -> ast.expr:
    """The parsed text, if it is made of what expressions are made of: no strings, comments or line breaks."""
    tokens = _SYNTAX.findall(text)
    if len(text) > MAX_EXPRESSION or len(tokens) > MAX_TOKENS or "".join(tokens) != text:
        raise ValueError
    return ast.parse(text.strip(), mode="eval").body


def rename(text: str, names: Mapping[str, str]) -> str:
    """`text` with its symbols renamed, terms in the order that sympy prints them under the new names."""
    if text in names:
        return names[text]
    expression = parse(text)
    return str(expression.xreplace({s: symbol(names[s.name]) for s in expression.free_symbols if s.name in names}))


def symbols_of(text: str) -> tuple[str, ...]:
    """The symbols of an expression in order of appearance, each once."""
    return tuple(dict.fromkeys(_TOKEN.findall(text)))


class SymbolNames:
    """Renames symbols to s0, s1, ... and u0, u1, ... in order of first use: torch's own names vary by release.

    Symbols first used in one expression come in the order in which torch made them.
    """

    def __init__(self) -> None:
        self._names: dict[sympy.Symbol, sympy.Symbol] = {}
        self._counts: dict[str, int] = {}

    def text(self, number: Any) -> str:
        """The canonical text of a SymInt, SymFloat or SymBool."""
        expression = number.node.expr
        fresh = expression.free_symbols - self._names.keys()
        for old in _in_creation_order(fresh, number.node.shape_env):
            self._names[old] = self._fresh(old.name)
        return str(expression.xreplace(self._names))

    def _fresh(self, name: str) -> sympy.Symbol:
        match = _SYMBOL.match(name)
        prefix = match[1] if match else "s"
        count = self._counts.get(prefix, 0)
        self._counts[prefix] = count + 1
        return symbol(f"{prefix}{count}")


def _in_creation_order(symbols: Set[sympy.Symbol], shapes: Any) -> list[sympy.Symbol]:
    if len(symbols) < 2:
        return list(symbols)
    created = {symbol: position for position, symbol in enumerate(shapes.var_to_range)}
    return sorted(symbols, key=lambda s: (created.get(s, len(created)), natural(s.name)))
