"""Symbolic expressions as torch.export writes them: the text of `sympy.srepr`, such as `Mul(Integer(2), Symbol('s0'))`.

torch.export.load hands that text to `sympy.sympify`, which evaluates it. Here it is taken apart as syntax.
"""

from __future__ import annotations

import ast
from collections.abc import Callable

from passes.errors import DeadkvError
from tracing.graph.escape import quoted
from tracing.graph.limits import MAX_EXPRESSION
from tracing.graph.symbols import parse

_LONGER = 16  # how many times as long as the expression its srepr may be: `Symbol('s0', positive=True, integer=True)`
_OPERATORS = {"Add": " + ", "Mul": "*", "Pow": "**"}
_COMPARISONS = {
    "Equality": "Eq", "Unequality": "Ne", "StrictLessThan": "<", "LessThan": "<=", "StrictGreaterThan": ">",
    "GreaterThan": ">=",
}  # fmt: skip


def plain(expression: str) -> str:
    """The expression in the notation of the graph file, `2*s0`.

    Raises:
        DeadkvError: it is no expression of sizes.
    """
    try:
        if len(expression) > _LONGER * MAX_EXPRESSION:
            raise ValueError
        text = _text(ast.parse(expression.strip(), mode="eval").body) if "(" in expression else expression
    except Exception as error:  # whatever the parser makes of hostile text, the answer is one line
        raise DeadkvError(f"{quoted(expression)} is not a symbolic expression") from error
    parse(text)
    return text


def _text(tree: ast.expr) -> str:
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name):
        return _call(tree.func.id, tree)
    return ast.unparse(tree)  # infix, which `parse` reads or refuses


def _call(name: str, tree: ast.Call) -> str:
    if name in _LEAVES:
        return _LEAVES[name](ast.literal_eval(tree.args[0]))
    operands = [_text(operand) for operand in tree.args]
    if name in _OPERATORS:
        return f"({_OPERATORS[name].join(operands)})"
    if _COMPARISONS.get(name, "Eq")[0] in "<>":
        return f"({f' {_COMPARISONS[name]} '.join(operands)})"
    return f"{_COMPARISONS.get(name, name)}({', '.join(operands)})"


_LEAVES: dict[str, Callable[[object], str]] = {
    "Symbol": str,
    "Integer": lambda number: f"({int(str(number))})",
    "Float": lambda number: f"({float(str(number))!r})",
}
