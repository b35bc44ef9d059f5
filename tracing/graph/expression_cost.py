"""How large an expression could become in sympy, bounded from its syntax alone: sympy evaluates and multiplies out."""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from dataclasses import dataclass

from tracing.graph.limits import MAX_BITS, MAX_TERMS

MAX_EXPONENT = 64
_SYMBOL_BITS = 64  # a size
_POWERS = ("PowByNatural", "FloatPow")
_PRODUCTS = ("CleanDiv", "FloatTrueDiv", "FloorDiv", "IntTrueDiv", "Mod", "ModularIndexing", "PythonMod")


@dataclass(frozen=True)
class Cost:
    """Bounds on an expression: `terms` when it is multiplied out, `bits` of the number it could evaluate to."""

    terms: int
    bits: int


def check_cost(tree: ast.AST) -> Cost:
    """The cost of an expression. Raises ValueError where it, or a part of it, is beyond the limits."""
    cost = _cost(tree)
    if cost.terms > MAX_TERMS or cost.bits > MAX_BITS:
        raise ValueError
    return cost


def _cost(tree: ast.AST) -> Cost:
    match tree:
        case ast.Constant(value=value):
            return Cost(1, _bits(value))
        case ast.Name():
            return Cost(1, _SYMBOL_BITS)
        case ast.BinOp(left=base, op=ast.Pow(), right=exponent):
            return _power(base, exponent)
        case ast.Call(func=ast.Name(id=name), args=[base, exponent]) if name in _POWERS:
            return _power(base, exponent)
        case ast.BinOp(left=left, op=ast.Mult() | ast.Div() | ast.FloorDiv() | ast.Mod(), right=right):
            return _product([check_cost(left), check_cost(right)])
        case ast.Call(func=ast.Name(id=name), args=args) if name in _PRODUCTS:
            return _product([check_cost(part) for part in args])
    return _sum([check_cost(part) for part in ast.iter_child_nodes(tree) if isinstance(part, ast.expr)])


def _bits(value: object) -> int:
    return int(abs(value)).bit_length() + 1 if isinstance(value, int | float) else 1


def _sum(parts: Sequence[Cost]) -> Cost:
    return Cost(sum(part.terms for part in parts), len(parts) + sum(part.bits for part in parts))


def _product(parts: Sequence[Cost]) -> Cost:
    return Cost(math.prod(part.terms for part in parts), len(parts) + sum(part.bits for part in parts))


def _power(base: ast.AST, exponent: ast.AST) -> Cost:
    """Of a power whose exponent is a literal: with another one the value has no useful bound."""
    literal = exponent.operand if isinstance(exponent, ast.UnaryOp) else exponent
    number = literal.value if isinstance(literal, ast.Constant) else None
    if not isinstance(number, int | float) or not 0 <= number <= MAX_EXPONENT:
        raise ValueError
    cost, times = check_cost(base), max(1, math.ceil(number))
    return Cost(cost.terms**times, cost.bits * times)
