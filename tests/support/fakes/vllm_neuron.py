"""A stand-in for the FX pass manager of vLLM Neuron's XLA route (docs/design/compilation/fx_passes_design.md).

`returns_metadata` is the form of a public fork, in which `run` returns `(gm, metadata)` and the metadata of earlier
passes reaches later ones as keyword arguments.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch.fx import GraphModule, Node


class FXPass(ABC):
    """The documented interface."""

    @abstractmethod
    def run(self, gm: GraphModule, **kwargs: Any) -> GraphModule:
        """The graph after the pass."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What the pass is called in the dumps."""


class DeviceRewriterPass(FXPass):
    """First in the real manager: moves `device=` arguments to the target device."""

    @property
    def name(self) -> str:
        return "DeviceRewriterPass"

    def run(self, gm: GraphModule, **kwargs: Any) -> GraphModule:
        assert kwargs["target_device"] == "xla"
        return gm


class AliasingOutputRewritePass(FXPass):
    """Appends every input that is written in place to the outputs, and maps that output to the input's position."""

    def __init__(self) -> None:
        self.io_map: dict[int, int] = {}
        self.analysed = 0

    @property
    def name(self) -> str:
        return "AliasingOutputRewritePass"

    def run(self, gm: GraphModule, **kwargs: Any) -> GraphModule:
        nodes = list(gm.graph.nodes)
        self.analysed = len(nodes)
        inputs = [node for node in nodes if node.op == "placeholder"]
        output = gm.graph.output_node()
        (results,) = output.args
        assert isinstance(results, tuple | list)
        written = [node for node in inputs if any(_writes(user, node) for user in node.users)]
        self.io_map = {len(results) + i: inputs.index(node) for i, node in enumerate(written)}
        output.args = ((*results, *written),)
        gm.recompile()
        return gm


class InPlaceToOutOfPlacePass(FXPass):
    """Last of those that matter here; it must still meet the in-place operations."""

    def __init__(self) -> None:
        self.met: list[str] = []

    @property
    def name(self) -> str:
        return "InPlaceToOutOfPlacePass"

    def run(self, gm: GraphModule, **kwargs: Any) -> GraphModule:
        self.met = [str(node.target) for node in gm.graph.nodes if node.op == "call_method"]
        return gm


def _writes(user: Node, operand: Node) -> bool:
    method = user.op == "call_method" and str(user.target).endswith("_") and user.args[0] is operand
    item = user.op == "call_function" and user.target is operator.setitem and user.args[0] is operand
    named = getattr(user.target, "__name__", "") == "nki_kernel_wrapper"
    return method or item or (named and operand in _aliased(user))


def _aliased(node: Node) -> list[Any]:
    """Operands that an NKI call may write: the aliased ones, or all of them where it is not compiled."""
    operands: Any = node.kwargs["args"]
    aliases: Any = node.kwargs["operand_output_aliases"]
    tensors = [operand for operand in operands if isinstance(operand, Node)]
    return [tensors[index] for index in aliases] if aliases else tensors


class FXPassManager:
    """Runs passes in order, each verified to have returned a graph with the same inputs."""

    def __init__(self) -> None:
        self._passes: list[Any] = []
        self.dumps: list[str] = []

    def add_pass(self, fx_pass: Any) -> None:
        self._passes.append(fx_pass)

    def run_passes(
        self, gm: GraphModule, target_device: str = "xla", compiler_workdir: str | None = None
    ) -> GraphModule:
        metadata: dict[str, Any] = {"target_device": target_device, "compiler_workdir": compiler_workdir}
        before = [node.name for node in gm.graph.find_nodes(op="placeholder")]
        for number, fx_pass in enumerate(self._passes):
            made = fx_pass.run(gm, **metadata)
            gm = self._graph(made, metadata)
            assert isinstance(gm, torch.fx.GraphModule)
            assert [node.name for node in gm.graph.find_nodes(op="placeholder")] == before
            gm.graph.lint()
            self.dumps.append(f"{number:02}_after_{fx_pass.name}.txt")
        return gm

    def _graph(self, made: Any, metadata: dict[str, Any]) -> Any:
        return made


def get_default_pass_manager() -> FXPassManager:
    """The documented order."""
    manager = FXPassManager()
    for fx_pass in (DeviceRewriterPass(), AliasingOutputRewritePass(), InPlaceToOutOfPlacePass()):
        manager.add_pass(fx_pass)
    return manager


class ForkAliasingPass(AliasingOutputRewritePass):
    """The fork's form: a graph and what later passes are told."""

    @property
    def name(self) -> str:
        return "AliasingOutputRewritePass"

    def run(self, gm: GraphModule, **kwargs: Any) -> tuple[GraphModule, dict[str, Any]]:  # type: ignore[override]
        return super().run(gm, **kwargs), {"io_map": self.io_map}


class ForkPassManager(FXPassManager):
    """The fork's manager: every pass returns a pair, and metadata goes on to the next."""

    def _graph(self, made: Any, metadata: dict[str, Any]) -> Any:
        graph, told = made
        metadata.update(told)
        return graph
