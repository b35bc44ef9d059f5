"""Graph document to torch.fx GraphModule, for analysis: nothing that a document holds is run or imported."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch.fx import Graph, GraphModule
from torch.fx import Node as FxNode

from passes.errors import DeadkvError
from tracing.graph.check import check
from tracing.graph.check_calls import check_call
from tracing.graph.document import Const, GraphDoc, Group, Node, Parameter, Ref, TensorType, Value
from tracing.graph.escape import shortened
from tracing.graph.fake_values import FakeValues
from tracing.graph.targets import resolve
from tracing.graph.values import CONSTANTS, constant, contiguous_stride


class OpaqueModule(torch.nn.Module):
    """Stands for a submodule or other object that a document names by its class. Calling it raises RuntimeError."""

    def __init__(self, class_name: str) -> None:
        super().__init__()
        self.class_name = class_name

    def forward(self, *args: object, **kwargs: object) -> NoReturn:
        """Refuse: a document does not hold what a leaf module computes."""
        raise RuntimeError(f"a {self.class_name} read from a graph document cannot be run")


@dataclass(frozen=True)
class DocumentCapture:
    """`gm.meta["capture"]` of a graph read from a document: its (input or parameter, output index) aliases."""

    aliases: tuple[tuple[str, int], ...]


def graph_module(doc: GraphDoc, values: FakeValues | None = None) -> GraphModule:
    """A GraphModule with the nodes of `doc`, fake tensors on cpu in `node.meta["val"]` and meta parameters.

    Functions are found by lookup among what torch.fx graphs call and what is registered in torch.ops; the rest become
    `OpaqueTarget`s. `document(graph_module(doc)) == doc` for every `doc` that `document` or `load` returned.

    Raises DeadkvError if `doc` is not a graph that torch.fx can hold.
    """
    check(doc)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Raw Sym", UserWarning)  # advice to tracers: a document is as it is
            return _Builder(doc, "", values or FakeValues(), {}).module()
    except DeadkvError:
        raise
    except Exception as error:  # check() lets through some graphs for which torch.fx cannot write a function
        reason = shortened(str(error).partition("\n")[0])
        raise DeadkvError(f"torch.fx cannot hold this graph: {type(error).__name__}: {reason}") from error


class _Builder:
    """Builds one graph; `storages` are the meta storages made so far, by full FQN."""

    def __init__(self, doc: GraphDoc, prefix: str, fakes: FakeValues, storages: dict[str, torch.Tensor]) -> None:
        self.doc = doc
        self.prefix = prefix
        self.fakes = fakes
        self.storages = storages
        self.schemas = dict(doc.schemas)
        self.graph = Graph()
        self.nodes: dict[str, FxNode] = {}

    def module(self) -> GraphModule:
        tensors = [(parameter.fqn, self._parameter(parameter)) for parameter in self.doc.parameters]
        root = self._root(tensors)
        for node in self.doc.nodes:
            self.nodes[node.name] = self._node(node)
        gm = GraphModule(root, self.graph, class_name=self.doc.name)
        for fqn, tensor in tensors:  # GraphModule takes over only what a node reads
            set_path(gm, fqn, tensor)
        if self.doc.aliases:
            gm.meta["capture"] = DocumentCapture(self.doc.aliases)
        return gm

    def _root(self, tensors: list[tuple[str, torch.nn.Parameter]]) -> torch.nn.Module:
        root = torch.nn.Module()
        for path, class_name in self.doc.objects:
            set_path(root, path, OpaqueModule(class_name))
        for path, graph in self.doc.subgraphs:
            set_path(root, path, _Builder(graph, f"{self.prefix}{path}.", self.fakes, self.storages).module())
        for fqn, tensor in tensors:
            set_path(root, fqn, tensor)
        return root

    def _parameter(self, parameter: Parameter) -> torch.nn.Parameter:
        full = self.prefix + parameter.fqn
        if parameter.tied_to is not None:
            self.storages[full] = self.storages[parameter.tied_to]
        elif full not in self.storages:
            self.storages[full] = torch.empty(0, device="meta")
        return torch.nn.Parameter(_view(self.storages[full], parameter.type), requires_grad=False)

    def _node(self, node: Node) -> FxNode:
        target = self._target(node)
        check_call(node, target)
        made = self.graph.create_node(
            node.op,
            target,
            tuple(self._value(arg) for arg in node.args),
            {key: self._value(arg) for key, arg in node.kwargs},
            name=node.name,
        )
        if made.name != node.name:
            raise DeadkvError(f"{node.name!r} cannot be a node name in torch.fx, which makes it {made.name!r}")
        if node.type is not None:
            made.meta["val"] = self.fakes.value(node.type)
        if node.source is not None:
            file, _, line = node.source.at.rpartition(":")
            made.meta["stack_trace"] = f'  File "{file}", line {line}, in forward\n    {node.source.code}\n'
        return made

    def _target(self, node: Node) -> str | Callable[..., Any]:
        if node.op == "call_function":
            return resolve(node.target, self.schemas.get(node.target))
        return node.target.removeprefix({"call_method": "Tensor.", "call_module": "module:"}.get(node.op, ""))

    def _value(self, value: Value) -> Any:
        match value:
            case Ref(name):
                return self.nodes[name]
            case Const(kind) if kind in CONSTANTS:
                return constant(value)
            case Const("sym", text):
                return self.fakes.number("int", text)
            case Const(_, text):
                return resolve(text, self.schemas.get(text))
            case Group(kind, items):
                return _CONTAINERS[kind]([self._value(item) for item in items])


_CONTAINERS: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "slice": lambda items: slice(*items),
    "range": lambda items: range(*items),
    "dict": lambda items: dict(zip(items[::2], items[1::2], strict=True)),
}


def _view(storage_owner: torch.Tensor, found: TensorType) -> torch.Tensor:
    """A meta tensor of the type over the storage of `storage_owner`, which grows to fit."""
    shape = tuple(int(d) for d in found.shape)
    stride = contiguous_stride(shape) if found.stride is None else tuple(int(d) for d in found.stride)
    empty = torch.empty(0, dtype=constant(Const("dtype", found.dtype)), device="meta")
    return empty.set_(storage_owner.untyped_storage(), 0, shape, stride)


def set_path(root: torch.nn.Module, path: str, value: torch.nn.Module | torch.Tensor) -> None:
    """Sets `root.path`, with plain modules for the parts that are not there."""
    *parents, leaf = path.split(".")
    for atom in parents:
        if not hasattr(root, atom):
            setattr(root, atom, torch.nn.Module())
        root = getattr(root, atom)
    setattr(root, leaf, value)
