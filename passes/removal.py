"""From the sites' gathers to the plan: what goes with them. It reads the analysis and edits nothing.

Removed are the gathers, everything computed from them (all of it is proven to be of no effect), and then what only
those nodes used: index arithmetic, reads of the pool, the operands of dead writes. Removal goes on through calls of
nested graphs: an operand that no graph reads goes from the call and from its graphs, a result that no caller reads
goes from the graphs and from the call, a loop's carry goes from all at once. Nothing else goes, however dead: this
pass removes what the source edit would have removed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from torch.fx import Graph, Node

from passes.demand.lattice import Demand
from passes.demand.result import DemandResult
from passes.facts import GraphFacts
from passes.frame_change import FrameChange
from passes.frames import Frame, walk
from passes.ops.schema import operand_nodes
from passes.plan import CallEdit, Plan
from passes.regions.calls import RegionCall
from passes.rewrites import Drop, Fold, is_folded_element

Place = tuple[Frame, Node]
"""A node in one entry of its graph."""


def make_plan(root: Frame, demand: Mapping[Frame, DemandResult], gathers: Iterable[Place]) -> Plan:
    """The plan that removes `gathers`, each of which must be dead under `demand`."""
    removal = Removal(demand)
    removal.run(gathers)
    return removal.plan(root)


def writes_to_kept_storage(root: Frame, plan: Plan) -> frozenset[Node]:
    """Erased writes whose storage holds a node that stays.

    Such a write is dead, but it is not the site's: the source edit that skips the site would not have taken it out.
    """
    facts = {frame.facts.graph: frame.facts for frame in walk(root)}
    return frozenset(node for found in plan.all() if found.erased for node in _foreign_writes(facts, found))


def _foreign_writes(facts: Mapping[Graph, GraphFacts], plan: Plan) -> Iterator[Node]:
    own = facts[plan.erased[0].graph]
    erased = set(plan.erased)
    written = {node: own[node].effects.writes for node in plan.erased if node in own.nodes}
    classes = dict.fromkeys(own.storage.of(target) for targets in written.values() for target in targets)
    erased_whole = {found for found in classes if erased.issuperset(found.members)}
    for node, targets in written.items():
        if any(own.storage.of(target) not in erased_whole for target in targets):
            yield node


class Removal:
    """Spreads removal over all frames from a worklist; each node, operand and result is taken up once."""

    def __init__(self, demand: Mapping[Frame, DemandResult]) -> None:
        self.demand = demand
        self.changes: dict[Frame, FrameChange] = {}
        self.operands: dict[Place, set[int]] = defaultdict(set)
        self.results: dict[Place, set[int]] = defaultdict(set)
        self.pending: list[Place] = []

    def change(self, frame: Frame) -> FrameChange:
        """What goes from `frame`."""
        if frame not in self.changes:
            self.changes[frame] = FrameChange(self.demand.get(frame, DemandResult()))
        return self.changes[frame]

    def run(self, gathers: Iterable[Place]) -> None:
        """Removes `gathers` and all that goes with them."""
        for frame, gather in gathers:
            self._erase(frame, gather)
        while self.pending:
            frame, node = self.pending.pop()
            for user in node.users:
                self._cut(frame, node, user)
            for operand in node.all_input_nodes:
                self._release(frame, node, operand)

    def _erase(self, frame: Frame, node: Node) -> None:
        erased = self.change(frame).erased
        if node not in erased:
            erased.add(node)
            self.pending.append((frame, node))

    def _cut(self, frame: Frame, node: Node, user: Node) -> None:
        """Frees `user` from `node`, which goes: by a rewrite, by dropping an operand or a result, or with it."""
        change = self.change(frame)
        if user in change.erased or (user, node) in change.released:
            return
        if node in change.folded:
            self._give_constant(frame, user)
        elif user.op == "output":
            self._drop_results_of(frame, node)
        elif not self.demand[frame].is_live(user):
            self._erase(frame, user)
        elif (region := frame.facts.region(user)) is not None:
            for index, operand in enumerate(region.call.operands):
                if node in operand_nodes(operand.value):
                    self._drop_operand(frame, region.call, index)
        else:
            self._rewrite(frame, node, user)

    def _give_constant(self, frame: Frame, user: Node) -> None:
        """A user of a folded value stays with the constant, but for an item of a folded tuple, and for what is dead."""
        if is_folded_element(user):
            self.change(frame).folded.add(user)
            self._erase(frame, user)
        elif not self.demand[frame].is_live(user):
            self._erase(frame, user)

    def _rewrite(self, frame: Frame, node: Node, user: Node) -> None:
        change = self.change(frame)
        for rewrite in self.demand[frame].rewrites.get(user, ()):
            if node in rewrite.severs and rewrite not in change.rewrites[user]:
                change.rewrites[user].append(rewrite)
                if isinstance(rewrite, Fold):
                    change.folded.add(user)
                if isinstance(rewrite, (Drop, Fold)):
                    self._erase(frame, user)
                for severed in rewrite.severs:
                    self._release(frame, user, severed)

    def _drop_results_of(self, frame: Frame, node: Node) -> None:
        assert frame.call is not None and frame.parent is not None, "the outermost graph's results are all demanded"
        for index, (_, value) in enumerate(frame.call.bodies[frame.body].results):
            if node in operand_nodes(value):
                self._drop_result(frame.parent, frame.call, index)

    def _drop_operand(self, frame: Frame, call: RegionCall, index: int) -> None:
        dropped = self.operands[frame, call.node]
        if index in dropped:
            return
        dropped.add(index)
        for body in frame.children[call.node]:
            self._erase(body, _placeholder(body, index))
        if index < call.carries:
            self._drop_result(frame, call, index)
        kept = [*call.controls, *(operand.value for i, operand in enumerate(call.operands) if i not in dropped)]
        self._release_unless_in(frame, call.node, call.operands[index].value, kept)

    def _drop_result(self, frame: Frame, call: RegionCall, index: int) -> None:
        dropped = self.results[frame, call.node]
        if index in dropped:
            return
        dropped.add(index)
        if index < call.carries:
            self._drop_operand(frame, call, index)
        for at in call.yielding:
            values = [value for _, value in call.bodies[at].results]
            kept = [value for i, value in enumerate(values) if i not in dropped]
            body = frame.children[call.node][at]
            self._release_unless_in(body, body.facts.output, values[index], kept)
        self._cut_takers(frame, call.node, index)

    def _cut_takers(self, frame: Frame, call: Node, result: int) -> None:
        """Frees all that takes a dropped result: values that hold only such, and dead users of a value with others."""
        elements, dropped = frame.facts.elements, self.results[frame, call]
        if len(dropped) == 1:
            self._cut_users(frame, call)
        for node in frame.facts.holders.get((call, result), ()):
            if node is not call and dropped.issuperset(elements[node].leaves):
                self._erase(frame, node)
            else:
                self._cut_users(frame, node)

    def _cut_users(self, frame: Frame, node: Node) -> None:
        """Frees every user that takes results whole, a slice of them, or one at an index from the end: all are dead."""
        for user in node.users:
            if user not in frame.facts.elements or frame.facts.elements[user].call is user:
                self._cut(frame, node, user)

    def _release_unless_in(self, frame: Frame, user: Node, value: object, kept: object) -> None:
        still_used = set(operand_nodes(kept))
        for node in operand_nodes(value):
            if node not in still_used:
                self._release(frame, user, node)

    def _release(self, frame: Frame, user: Node, node: Node) -> None:
        """Notes that `user` no longer uses `node`, which goes too if that was its last use."""
        change = self.change(frame)
        if (user, node) in change.released:
            return
        change.released.add((user, node))
        if change.proves(user, node):
            return
        left = change.users_left[node] = change.count_uses(node) - 1
        if left == 0 and node not in change.erased:
            if node.op == "placeholder" and frame.parent is not None:
                self._drop_unused_operand(frame, node)
            elif _may_be_erased(node, frame.facts):
                self._erase(frame, node)

    def _drop_unused_operand(self, frame: Frame, placeholder: Node) -> None:
        assert frame.call is not None and frame.parent is not None
        call, caller = frame.call, frame.parent
        index = call.bodies[frame.body].placeholders.index(placeholder)
        bodies = caller.children[call.node]
        is_unused = all(self.change(body).count_uses(_placeholder(body, index)) == 0 for body in bodies)
        if is_unused and self.demand[caller].regions[call.node].operands[index] is not Demand.DATA:
            self._drop_operand(caller, call, index)

    def plan(self, frame: Frame) -> Plan:
        """What was found for the graph of `frame` and those below it."""
        erased, rewrites = self.change(frame).erased, self.change(frame).rewrites
        return Plan(
            tuple(rewrite for node in sorted(rewrites) for rewrite in rewrites[node]),
            tuple(node for node in frame.facts.graph.nodes if node in erased),
            self._dropped_paths(frame),
            tuple(edit for node in frame.children if node not in erased for edit in self._edit(frame, node)),
        )

    def _dropped_paths(self, frame: Frame) -> tuple[tuple[int | str, ...], ...]:
        if frame.parent is None or frame.call is None or frame.body not in frame.call.yielding:
            return ()
        dropped = self.results.get((frame.parent, frame.call.node), ())
        return tuple(path for index, path in enumerate(frame.call.results) if index in dropped)

    def _edit(self, frame: Frame, node: Node) -> Iterator[CallEdit]:
        region = frame.facts.region(node)
        assert region is not None
        operands, results = self.operands.get((frame, node), ()), self.results.get((frame, node), ())
        bodies = tuple(self.plan(body) for body in frame.children[node])
        if operands or results or any(bodies):
            taken = [found for found in frame.facts.taken[node] if found not in self.change(frame).erased]
            elements = tuple((found, frame.facts.elements[found].path) for found in taken if found is not node)
            path = (*frame.path, node.name)
            yield CallEdit(region.call, path, tuple(sorted(operands)), tuple(sorted(results)), elements, bodies)


def _placeholder(frame: Frame, index: int) -> Node:
    assert frame.call is not None
    return frame.call.bodies[frame.body].placeholders[index]


def _may_be_erased(node: Node, facts: GraphFacts) -> bool:
    if node.op == "get_attr":
        return True
    found = facts.nodes.of(node)
    if found is None or (found.op is None and found.region is None):
        return False
    return found.effects.reason is None and not found.effects.writes
