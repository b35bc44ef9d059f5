"""All that a user can see of a handful of runs, as text: what must not depend on the process.

`python -m tests.support.outcomes` prints it as JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from passes import DedupPrefixCache, PrunePrefixCache
from tests.support.builder import GraphBuilder
from tests.test_regions import Decode, three_layers
from tracing import capture, compile_tkg
from tracing.collection import collection_paused
from tracing.decoder import build_decoder
from tracing.graph import diff, document, dumps, render_dot, render_html, render_text, text

LIVENESS: dict[type[Any], dict[str, str]] = {PrunePrefixCache: {"policy": "liveness"}, DedupPrefixCache: {}}
"""For each pass, the options under which it edits whatever it can."""

PRUNE = PrunePrefixCache(policy="liveness")


def captured(variant: str, frontend: str = "make_fx") -> GraphModule:
    """A captured variant of the reference decoder."""
    decoder = build_decoder("tiny", variant, batch=2, bucket=64)
    return capture(decoder, decoder.example_inputs(), frontend=frontend, aliases=decoder.aliases())


def gathered_twice() -> GraphModule:
    """A graph for dedup-prefix-cache."""
    build = GraphBuilder()
    x, table = build.input("x", 3, 2, 16, 8), build.input("active_block_table", 3, 4, dtype=torch.int32)
    pool = build.parameter("past_key_values.0", 10, 4, 2, 8)
    for _ in range(2):
        x = build.call(torch.ops.aten.add.Tensor, x, build.site(pool, table))
    return build.module(x)


CASES: dict[str, tuple[Callable[[], GraphModule], Any]] = {
    "base": (lambda: captured("base"), PrunePrefixCache()),
    "base-export": (lambda: captured("base", "export"), PrunePrefixCache()),
    "base-dynamo": (lambda: captured("base", "dynamo"), PrunePrefixCache()),
    "regional": (lambda: captured("regional"), PRUNE),
    "scan": (lambda: captured("scan"), PRUNE),
    "opaque-past": (lambda: captured("opaque-past"), PrunePrefixCache(shrink_inputs=True)),
    "sliding-window": (lambda: captured("sliding-window"), PRUNE),
    "split-region": (lambda: three_layers(Decode(), last_needs_all=True), PRUNE),
    "gathered-twice": (gathered_twice, DedupPrefixCache()),
}

COMPILED = {"inf2": "base", "trn2": "cache-update"}
"""For each target, the variant that is compiled for it: on inf2 the kernel is plain HLO, on trn2 a custom call."""


def outcome(before: GraphModule, step: Any) -> dict[str, str]:
    """Code, canonical text, JSON, the diff in every form, report and uuid of one run."""
    old = document(before)
    result = step(before)
    assert result.modified
    new = document(result.graph_module)
    found, report = diff(old, new), result.report.to_dict()
    return {
        "code": "\n".join(found.code for found in result.graph_module.modules() if isinstance(found, GraphModule)),
        "text": text(new),
        "graph": dumps(new),
        "diff": render_text(found, color=True),
        "diff.json": json.dumps(found.to_dict()),
        "diff.html": render_html(found, old, new),
        "diff.dot": render_dot(found),
        "report": json.dumps(report),
        "names": json.dumps([node.name for node in result.graph_module.graph.nodes]),
        "uuid": step.uuid(),
    }


def symbolic() -> GraphModule:
    """A graph with sizes that are expressions, some known from the inputs only, and nested graphs."""

    def branches(x: Tensor, n: int) -> tuple[Any, ...]:
        either = torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,))
        return either, x.nonzero(), x.view(-1), x.new_ones(n, 2)

    return make_fx(branches, tracing_mode="symbolic")(torch.ones(3, 4), 2)


def written(target: str) -> dict[str, str]:
    """Every file that a compilation for `target` writes."""
    decoder = build_decoder("tiny", COMPILED[target], batch=2, bucket=32)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        compile_tkg(
            decoder, decoder.example_inputs(), aliases=decoder.aliases(), backend="hlo", target=target, out_dir=out
        )
        return {path.name: path.read_bytes().decode("latin-1") for path in sorted(out.iterdir())}


def outcomes() -> dict[str, dict[str, str]]:
    """The outcome of every case, the text of a symbolic graph, and what a compilation writes for each target."""
    return {
        **{name: outcome(made(), step) for name, (made, step) in CASES.items()},
        "symbolic": {"text": text(document(symbolic()))},
        **{target: written(target) for target in COMPILED},
    }


if __name__ == "__main__":
    with collection_paused():
        json.dump(outcomes(), sys.stdout, indent=1)
