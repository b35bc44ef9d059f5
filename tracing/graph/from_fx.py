"""torch.fx GraphModule to graph document."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.fx import GraphModule
from torch.fx import Node as FxNode

from passes.errors import DeadkvError
from tracing.graph.document import GraphDoc, Node, Parameter, Source, Type, Value
from tracing.graph.encode import Encoder
from tracing.graph.natural import natural
from tracing.graph.targets import object_name, schema_of

_FRAME = re.compile(r'File "([^"\n]*)", line (\d+), in [^\n]*(?:\n[ \t]*(?!File ")(\S[^\n]*))?')
_TORCH = str(Path(torch.__file__).parent)


def document(gm: GraphModule) -> GraphDoc:
    """The graph document of `gm` and of the graph modules nested in it. `gm` is only read."""
    return _Reader(gm, "", {}, Encoder()).document()


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


_PREFIXES = {"call_method": "Tensor.", "call_module": "module:"}


class _Reader:
    """Collects what one graph refers to while its nodes are read in order.

    `prefix` is the path of the graph from the outermost one, `owners` the first FQN seen for each storage. Nested
    graphs share `owners` and `encoder` with the outer one, for they share its storages and symbols.
    """

    def __init__(self, gm: GraphModule, prefix: str, owners: dict[int, str], encoder: Encoder) -> None:
        self.gm = gm
        self.prefix = prefix
        self.owners = owners
        self.encoder = encoder
        self.functions: dict[Any, str] = {}
        self.sources: dict[str | None, Source | None] = {}
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
        return _Reader(gm, f"{self.prefix}{path}.", self.owners, self.encoder).document()

    def _node(self, node: FxNode) -> Node:
        return Node(
            node.name,
            node.op,
            self._target(node.op, node.target),
            self.encoder.values(node.args),
            self._keywords(node.kwargs),
            self._type(node),
            self._source(node.meta.get("stack_trace")),
        )

    def _keywords(self, kwargs: Mapping[str, Any]) -> tuple[tuple[str, Value], ...]:
        keys = sorted(kwargs)
        return tuple(zip(keys, self.encoder.values(kwargs[key] for key in keys), strict=True)) if keys else ()

    def _target(self, op: str, target: Any) -> str:
        if op == "call_function":
            return self._function(target)
        if op in ("get_attr", "call_module"):
            self._attribute(str(target))
        return _PREFIXES.get(op, "") + str(target)

    def _function(self, target: Any) -> str:
        name = self.functions.get(target)
        if name is None:
            name = self.functions[target] = object_name(target)
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
        value = node.meta["val"] if "val" in node.meta else node.meta.get("example_value")
        if value is None and node.op == "get_attr":
            value = self.tensors.get(str(node.target))
        return self.encoder.type(value)

    def _source(self, stack_trace: str | None) -> Source | None:
        if stack_trace not in self.sources:
            self.sources[stack_trace] = source_of(stack_trace)
        return self.sources[stack_trace]

    def _parameters(self) -> tuple[Parameter, ...]:
        return tuple(self._parameter(fqn) for fqn in sorted(self.tensors, key=natural))

    def _parameter(self, fqn: str) -> Parameter:
        tensor, full = self.tensors[fqn], self.prefix + fqn
        storage = _storage(tensor)
        owner = full if storage is None else self.owners.setdefault(storage, full)
        return Parameter(fqn, self.encoder.tensor_type(tensor), None if owner == full else owner)
