"""torch.fx GraphModule to graph document."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch.fx import GraphModule
from torch.fx import Node as FxNode

from passes.errors import DeadkvError
from tracing.graph.document import GraphDoc, Node, Parameter, Source, Type
from tracing.graph.natural import natural
from tracing.graph.symbols import SymbolNames
from tracing.graph.targets import object_name, schema_of
from tracing.graph.values import encode, tensor_type, type_of

_FRAME = re.compile(r'File "([^"\n]*)", line (\d+), in [^\n]*(?:\n[ \t]*(?!File ")(\S[^\n]*))?')
_TORCH = str(Path(torch.__file__).parent)


def document(gm: GraphModule) -> GraphDoc:
    """The graph document of `gm` and of the graph modules nested in it. `gm` is only read."""
    return _Reader(gm, "", {}, SymbolNames()).document()


def source_of(stack_trace: str | None) -> Source | None:
    """The innermost frame of a stack trace that lies in a file outside torch."""
    for path, line, code in reversed(_FRAME.findall(stack_trace or "")):
        if not path.startswith((_TORCH, "<")):
            return Source(f"{Path(path).name}:{line}", code.strip())
    return None


def _attribute(root: torch.nn.Module, path: str) -> Any:
    found: Any = root
    for atom in path.split("."):
        found = getattr(found, atom)
    return found


def _storage(tensor: torch.Tensor) -> int | None:
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # a layout or subclass without a storage of its own
        return None


class _Reader:
    """Collects what one graph refers to while its nodes are read in order.

    `prefix` is the path of the graph from the outermost one, `owners` the first FQN seen for each storage. Nested
    graphs share `owners` and `names` with the outer one, for they share its storages and symbols.
    """

    def __init__(self, gm: GraphModule, prefix: str, owners: dict[int, str], names: SymbolNames) -> None:
        self.gm = gm
        self.prefix = prefix
        self.owners = owners
        self.names = names
        self.tensors: dict[str, torch.Tensor] = {}
        self.objects: dict[str, str] = {}
        self.schemas: dict[str, str] = {}
        self.subgraphs: dict[str, GraphModule] = {}

    def document(self) -> GraphDoc:
        nodes = tuple(self._node(node) for node in self.gm.graph.nodes)
        aliases = self._aliases()
        parameters = self._parameters()  # before the subgraphs', so that the outermost FQN owns a shared storage
        return GraphDoc(
            name=re.sub(r"\W|^(?=\d)", "_", type(self.gm).__name__, flags=re.ASCII),
            nodes=nodes,
            parameters=parameters,
            aliases=aliases,
            objects=tuple(sorted(self.objects.items())),
            schemas=tuple(sorted(self.schemas.items())),
            subgraphs=tuple((path, self._nested(path, gm)) for path, gm in sorted(self.subgraphs.items())),
        )

    def _aliases(self) -> tuple[tuple[str, int], ...]:
        inputs = {name for n in self.gm.graph.nodes if n.op == "placeholder" for name in (n.name, n.target)}
        aliases = [(str(name), int(index)) for name, index in getattr(self.gm.meta.get("capture"), "aliases", ())]
        for name, _ in aliases:
            if name not in inputs:
                self._aliased(name)
        return tuple(aliases)

    def _aliased(self, name: str) -> None:
        try:
            self._attribute(name)
        except AttributeError as error:
            raise DeadkvError(
                f"the graph's aliases name {name!r}, which is neither an input nor a parameter"
            ) from error

    def _nested(self, path: str, gm: GraphModule) -> GraphDoc:
        return _Reader(gm, f"{self.prefix}{path}.", self.owners, self.names).document()

    def _node(self, node: FxNode) -> Node:
        target = self._target(node)
        return Node(
            name=node.name,
            op=node.op,
            target=target,
            args=tuple(encode(arg, self.names) for arg in node.args),
            kwargs=tuple((key, encode(node.kwargs[key], self.names)) for key in sorted(node.kwargs)),
            type=self._type(node),
            source=source_of(node.meta.get("stack_trace")),
        )

    def _target(self, node: FxNode) -> str:
        match node.op:
            case "call_method":
                return f"Tensor.{node.target}"
            case "get_attr":
                self._attribute(str(node.target))
            case "call_module":
                self._attribute(str(node.target))
                return f"module:{node.target}"
            case "call_function":
                return self._function(node.target)
        return str(node.target)

    def _function(self, target: Any) -> str:
        name = object_name(target)
        schema = schema_of(target)
        if schema is not None:
            self.schemas[name] = schema
        return name

    def _attribute(self, path: str) -> None:
        found = _attribute(self.gm, path)
        if isinstance(found, torch.Tensor):
            self.tensors[path] = found
        elif isinstance(found, GraphModule):
            self.subgraphs[path] = found
        else:
            self.objects[path] = getattr(found, "class_name", None) or object_name(type(found))
            if isinstance(found, torch.nn.Module):
                self._module_tensors(path, found)

    def _module_tensors(self, path: str, module: torch.nn.Module) -> None:
        for named in (module.named_parameters, module.named_buffers):
            for name, tensor in named(remove_duplicate=False):
                self.tensors[f"{path}.{name}"] = tensor

    def _type(self, node: FxNode) -> Type | None:
        value = node.meta.get("val", node.meta.get("example_value"))
        if value is None and node.op == "get_attr":
            value = self.tensors.get(str(node.target))
        return type_of(value, self.names)

    def _parameters(self) -> tuple[Parameter, ...]:
        return tuple(self._parameter(fqn) for fqn in sorted(self.tensors, key=natural))

    def _parameter(self, fqn: str) -> Parameter:
        tensor, full = self.tensors[fqn], self.prefix + fqn
        storage = _storage(tensor)
        owner = full if storage is None else self.owners.setdefault(storage, full)
        return Parameter(fqn, tensor_type(tensor, self.names), None if owner == full else owner)
