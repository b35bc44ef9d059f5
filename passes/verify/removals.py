"""Every removed node must be without effect: a pure call, an attribute read, or a write to memory that went with it."""

from __future__ import annotations

from typing import Any

from torch._ops import OpOverload
from torch.fx import GraphModule, Node

from passes.contracts import Contracts
from passes.ops.schema import operator_name, resolve
from passes.regions.calls import bind_region
from passes.verify.correspondence import Correspondence
from passes.verify.effects import flaw_of, only_computes, written
from passes.verify.storage import surviving_roots
from passes.verify.trail import reject

_NO_CALLS = ("placeholder", "get_attr", "output")


class Removals:
    """Judges removed nodes. Each nested graph that a removed node calls is looked through once."""

    def __init__(self, contracts: Contracts) -> None:
        self._contracts = contracts
        self._flaws: dict[GraphModule, str | None] = {}
        self._pure: dict[OpOverload, bool] = {}

    def check(self, pair: Correspondence) -> None:
        """Rejects a removed node that does something besides computing its value."""
        for node in pair.removed:
            if node.op in _NO_CALLS or self._is_pure(node):
                continue
            if (flaw := self._flaw(node, pair.before)) is not None:
                reject(node, flaw, pair.within)
        for node, root in self._outliving_writes(pair.before, pair.removed):
            reject(node, f"it writes the storage of %{root.name}, which outlives it", pair.within)

    def _flaw(self, node: Node, module: GraphModule) -> str | None:
        region = bind_region(node, module)
        if region is None:
            return "it is a boundary marker, which stays" if self._is_marker(node) else flaw_of(node, self._contracts)
        if region.kind == "while_loop":
            return "it is a loop, which may not end"
        flaws = [self._body_flaw(body.module) for body in region.bodies]
        return next((flaw for flaw in flaws if flaw is not None), None)

    def _is_pure(self, node: Node) -> bool:
        """Whether it shows in the target alone that a call does nothing but compute."""
        target: Any = node.target
        if not isinstance(target, OpOverload):
            return False
        if target not in self._pure:
            is_special = self._contracts.may_say_something(target._schema.name)
            self._pure[target] = not is_special and only_computes(target)
        return self._pure[target]

    def _is_marker(self, node: Node) -> bool:
        name = operator_name(node)
        return self._contracts.is_marker(resolve(node)) if name is None else self._contracts.is_marker_name(name)

    def _body_flaw(self, body: GraphModule) -> str | None:
        if body not in self._flaws:
            self._flaws[body] = self._find_flaw(body)
        return self._flaws[body]

    def _find_flaw(self, body: GraphModule) -> str | None:
        nodes = tuple(body.graph.nodes)
        for node in nodes:
            if node.op not in _NO_CALLS and not self._is_pure(node) and (flaw := self._flaw(node, body)) is not None:
                return f"its graph runs %{node.name}, and of that: {flaw}"
        for node, root in self._outliving_writes(body, nodes):
            return f"its graph runs %{node.name}, which writes the storage of %{root.name}"
        return None

    def _outliving_writes(self, module: GraphModule, gone: tuple[Node, ...]) -> list[tuple[Node, Node]]:
        """Writes among `gone` to storage that outlives them, each with a node that shows it."""
        calls = [node for node in gone if node.op not in _NO_CALLS and not self._is_pure(node)]
        writes = [(node, target) for node in calls for target in written(node, self._contracts)]
        roots = surviving_roots(module, frozenset(gone), self._contracts) if writes else {}
        return [(node, root) for node, target in writes if (root := roots[target]) is not None]
