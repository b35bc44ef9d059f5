"""The passes as an FXPass of vLLM Neuron's XLA route, placed before its aliasing analysis.

    insert_pass(get_default_pass_manager())

The manager runs on Dynamo's torch-level graph: in-place operations and NKI calls are still nodes, and inputs are found
by position. Nothing of vLLM Neuron is imported; what is needed of it is read off its passes.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any, Literal

from torch.fx import GraphModule
from torch.fx.passes.infra.pass_base import PassBase

from passes import DeadkvError, PassPipeline
from tracing.integrations.pruned import keeping_inputs

ALIASING_PASS = "AliasingOutputRewritePass"
Returns = Literal["graph", "graph and metadata"]


class DeadkvFXPass:
    """The passes with the interface of vLLM Neuron's `FXPass`: a `name`, and `run(gm, **kwargs)`.

    Attributes:
        returns: what `run` returns: "graph", as documented, or "graph and metadata", a pair with an empty dict.
    """

    def __init__(
        self, passes: Sequence[str | PassBase] = ("prune-prefix-cache",), *, returns: Returns = "graph"
    ) -> None:
        """Raises DeadkvError for an unknown pass or option, and for another `returns`."""
        if returns not in ("graph", "graph and metadata"):
            raise DeadkvError(f"returns={returns!r}: give 'graph' or 'graph and metadata'")
        self.pipeline = PassPipeline(passes)
        self.returns = returns

    @property
    def name(self) -> str:
        """What the manager calls the pass in its dumps."""
        return "DeadkvPass"

    def run(self, gm: GraphModule, **kwargs: Any) -> GraphModule | tuple[GraphModule, dict[str, Any]]:
        """The graph after the passes, each verified. `kwargs`, the metadata of earlier passes, is not read.

        Raises:
            DeadkvError: a pass drops an input, which the manager's callers bind by position.
            PruneVerificationError: a pruned graph is not provably equivalent.
        """
        refusal = "vLLM Neuron binds inputs by position: leave out the option shrink_inputs"
        result = keeping_inputs(self.pipeline, gm, "graph", refusal)
        return result.graph_module if self.returns == "graph" else (result.graph_module, {})


def insert_pass(
    manager: Any,
    passes: Sequence[str | PassBase] = ("prune-prefix-cache",),
    *,
    before: str = ALIASING_PASS,
    returns: Returns | None = None,
) -> DeadkvFXPass:
    """Put the passes into vLLM Neuron's pass manager, in front of the pass `before`, and return what was put there.

    NEFFs that are cached already stay in use: the cache key is made of the graph before the manager's passes. Clear the
    cache once, or set VLLM_CACHE_ROOT to a new folder.

    Args:
        manager: an `FXPassManager`, such as `get_default_pass_manager()` returns.
        passes: passes to run, as objects or text.
        before: class name, or `name`, of the pass to go in front of.
        returns: what `run` returns; None to do as the pass `before` is annotated.

    Raises:
        DeadkvError: the manager has no list of passes or no pass `before`, or an unknown pass or option.
    """
    found = _pass_list(manager)
    position = next((i for i, other in enumerate(found) if before in _names(other)), None)
    if position is None:
        known = ", ".join(type(other).__name__ for other in found)
        raise DeadkvError(f"the pass manager has no {before}, only {known}: name the pass to precede with before=")
    added = DeadkvFXPass(passes, returns=returns or _returns(found[position]))
    found.insert(position, added)
    return added


def _pass_list(manager: Any) -> list[Any]:
    """The one list of passes that the manager holds, under whatever name."""
    lists = [value for value in vars(manager).values() if isinstance(value, list) and value and _all_passes(value)]
    if len(lists) != 1:
        raise DeadkvError(
            f"{type(manager).__name__} holds {len(lists)} lists of passes: give an FXPassManager that has its passes"
        )
    return lists[0]


def _all_passes(values: Sequence[Any]) -> bool:
    return all(callable(getattr(value, "run", None)) and hasattr(value, "name") for value in values)


def _names(other: Any) -> tuple[str, ...]:
    return type(other).__name__, str(other.name)


def _returns(neighbour: Any) -> Returns:
    """By the return annotation of the neighbour's `run`, an object or text."""
    annotation = inspect.signature(neighbour.run).return_annotation
    text = annotation if isinstance(annotation, str) else str(annotation)
    return "graph and metadata" if re.match(r"(typing\.)?tuple\[", text, re.IGNORECASE) else "graph"
