"""The passes inside Inductor, on its graph before it is fused: a CustomGraphPass that its caches know."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

from torch._inductor.custom_graph_pass import CustomGraphPass
from torch.fx import Graph, GraphModule
from torch.fx.passes.infra.pass_base import PassBase

from passes import DeadkvError, PassPipeline
from passes.pipeline import name_of
from passes.specs import make_pass
from tracing.dump import graph_dump


class InductorPasses(CustomGraphPass):
    """Runs passes on the graph that Inductor gives to a custom pass, in place, each verified.

    with torch._inductor.config.patch(post_grad_custom_pre_pass=InductorPasses(["prune-prefix-cache"])):
        torch.compile(model)(*inputs)

    AOTAutograd has removed what nothing uses by then: what is left to find are operands that a kernel does not read.

    Args:
        passes: passes to run, as objects or text; each must be able to work in place.

    Raises:
        DeadkvError: unknown pass or option, a pass without the option `inplace`, or one that drops inputs.
    """

    def __init__(self, passes: Sequence[str | PassBase]) -> None:
        self.pipeline = PassPipeline([_in_place(make_pass(step)) for step in passes])

    def __call__(self, graph: Graph) -> None:
        """Edits `graph`, which must belong to a GraphModule."""
        module = graph.owning_module
        if not isinstance(module, GraphModule):
            raise DeadkvError("the graph belongs to no GraphModule: register the pass as Inductor's post-grad pass")
        self.pipeline(module, graph_dump(None, "inductor"))

    def uuid(self) -> str | None:
        """Part of the key of Inductor's caches: each pass with its sources and options, and which are disabled.

        None, so that nothing is cached, if one of the passes cannot say.
        """
        disabled = self.pipeline.disabled()
        known = [_identity(step) for step in self.pipeline.passes if name_of(step) not in disabled]
        return None if None in known else hashlib.sha256(repr(known).encode()).hexdigest()


def _identity(step: PassBase) -> str | None:
    identify: Any = getattr(step, "uuid", None)
    return None if identify is None else identify()


def _in_place(step: Any) -> PassBase:
    name = name_of(step)
    if not hasattr(step, "inplace"):
        raise DeadkvError(f"pass {name} has no option inplace: Inductor needs passes that edit its graph")
    if getattr(step, "shrink_inputs", False):
        raise DeadkvError(f"pass {name}: Inductor calls its graph with all inputs: leave out the option shrink_inputs")
    changed: PassBase = dataclasses.replace(step, inplace=True)
    return changed
