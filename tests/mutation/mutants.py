"""The mutants of a file: cosmic-ray's operators, less the changes that no run could see."""

from __future__ import annotations

import ast
import random
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

SKIPPED = re.compile(r"RemoveDecorator|Operator_Is(Not)?_(Eq|NotEq|Lt|LtE|Gt|GtE)$|Operator_(Eq|NotEq)_Is(Not)?$")
"""Operators that ask nothing: nodes, None and enums are equal if identical; without `@dataclass` nothing imports."""
ORDERED, TEXT = re.compile(r"Operator_(Not)?Eq_(Lt|LtE|Gt|GtE)$"), re.compile(r"""[=!]= ["']|[=!]= [A-Z]+\b""")
"""The order of texts asks nothing either: no `kind == "scan"` is there for what comes before "scan"."""
ASSURANCES = frozenset({"frozen", "strict"})
"""Keywords that only turn a mistake into an error: `dataclass(frozen=True)`, `zip(strict=True)`."""


@dataclass(frozen=True)
class Mutant:
    """One change of one line of one file.

    Attributes:
        path: the file, relative to the repository.
        operator: cosmic-ray's name of the change, such as `core/AddNot`.
        line: number of the first line that changes.
        before: that line.
        after: what it becomes.
        source: the whole file, changed.
    """

    path: str
    operator: str
    line: int
    before: str
    after: str
    source: str


def sample(path: str, size: int, seed: int) -> Iterator[Mutant]:
    """At most `size` mutants of a file, drawn without replacement; the same for the same file, size and seed."""
    source = Path(path).read_text()
    places = list(_places(source))
    random.Random(f"{seed}:{path}").shuffle(places)
    seen = {meaning(source), None}
    for operator, occurrence in places:
        if len(seen) > size + 1:
            return
        changed = mutate_code(source, get_operator(operator)(), occurrence)
        if changed is None or (found := meaning(changed)) in seen:
            continue
        line, before, after = _first_change(source, changed)
        if ORDERED.search(operator) and TEXT.search(before):
            continue
        seen.add(found)
        yield Mutant(path, operator, line, before, after, changed)


def meaning(source: str) -> CodeType | None:
    """Equal for two sources that run alike: without annotations (none is evaluated), docstrings and positions.

    None for what is no Python, or no good one: `is` of a literal, which depends on how strings are stored.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", SyntaxWarning)
        try:
            return compile(_plain(ast.parse(source)), "", "exec")
        except SyntaxError:
            return None


def _plain(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module)) and ast.get_docstring(node) is not None:
            node.body[0] = ast.Expr(ast.Constant(""))
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.Call):
            node.keywords = [keyword for keyword in node.keywords if keyword.arg not in ASSURANCES]
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.arguments):  # `*,` may become `/,`: other ways to call the same
            node.args = [*node.posonlyargs, *node.args, *node.kwonlyargs]
            node.defaults += [default for default in node.kw_defaults if default is not None]
            node.posonlyargs, node.kwonlyargs, node.kw_defaults = [], [], []
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant("")
    for node in ast.walk(tree):
        for name in ("lineno", "end_lineno"):
            setattr(node, name, 1)
        for name in ("col_offset", "end_col_offset"):
            setattr(node, name, 0)
    return tree


def _places(source: str) -> Iterator[tuple[str, int]]:
    nodes = list(ast_nodes(get_ast(source)))
    for name in sorted(operator_names()):
        if not SKIPPED.search(name) and not get_operator(name).arguments():
            operator = get_operator(name)()
            count = sum(1 for node in nodes for _ in operator.mutation_positions(node))
            yield from ((name, occurrence) for occurrence in range(count))


def _first_change(source: str, changed: str) -> tuple[int, str, str]:
    pairs = zip(source.splitlines(), changed.splitlines(), strict=False)
    return next((at, old.strip(), new.strip()) for at, (old, new) in enumerate(pairs, 1) if old != new)
