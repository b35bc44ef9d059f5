"""One graph of an exported program, outermost or nested, as the JSON of the graph file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from tracing.graph.from_fx import source_of
from tracing.graph.pt2.arguments import argument, target_name
from tracing.graph.pt2.types import Sizes
from tracing.graph.targets import known_schema

Json = dict[str, Any]
_SCALARS = {"sym_int": "int", "sym_float": "float", "sym_bool": "bool"}
_SINGLE = ("as_tensor", "as_none", *(f"as_{kind}" for kind in _SCALARS))
_KEYWORD = 2  # ArgumentKind of torch's schema


class BodyReader:
    """Rewrites one serialized graph. `state` maps placeholders that stand for parameters and buffers to their FQNs."""

    def __init__(self, graph: Json, sizes: Sizes, state: Mapping[str, str]) -> None:
        self.found = graph
        self.sizes = sizes
        self.state = state
        self.tensors = {name: sizes.tensor(meta) for name, meta in graph["tensor_values"].items()}
        self.types: Json = dict(self.tensors)
        for kind, number in _SCALARS.items():
            values = graph.get(f"{kind}_values", {})
            self.types.update((name, sizes.scalar(number, value)) for name, value in values.items())
        self.nodes: list[Json] = []
        self.schemas: Json = {}
        self.subgraphs: Json = {}
        self.uses: Counter[str] = Counter()
        self.names = {*self.types, *(node.get("name") for node in graph["nodes"]), "output"}

    def graph(self, name: str, *, flat: bool) -> Json:
        """The graph in the file's form; `flat` for outputs as a list, as `capture` gives them."""
        for spec in self.found["inputs"]:
            self._input(spec)
        for node in self.found["nodes"]:
            self._call(node)
        self._output(flat)
        return {
            "name": name, "parameters": [], "objects": {}, "schemas": self.schemas, "aliases": [],
            "nodes": self.nodes, "subgraphs": self.subgraphs,
        }  # fmt: skip

    def _add(self, name: str, op: str, target: str, args: list[Any], kwargs: Json, found: Any, source: Any) -> None:
        self.nodes.append(
            {"name": name, "op": op, "target": target, "args": args, "kwargs": kwargs, "type": found, "source": source}
        )

    def _input(self, spec: Json) -> None:
        value = argument(spec)
        name = value["node"] if isinstance(value, dict) else self._free("constant")
        if name not in self.state:
            self._add(name, "placeholder", name, [], {}, self.types.get(name), None)

    def _output(self, flat: bool) -> None:
        results = [argument(result) for result in self.found["outputs"]]
        reads = self._state_reads(results, None)
        values = [_renamed(result, reads) for result in results]
        single = not flat and self.found.get("is_single_tensor_return") and len(values) == 1
        returned = values[0] if single else values if flat else {"tuple": values}
        self._add("output", "output", "output", [returned], {}, None, None)

    def _call(self, node: Json) -> None:
        source = _source(node["metadata"])
        target = target_name(node["target"])
        inputs = [(given, _as_traced(target, self._value(given["arg"], source))) for given in node["inputs"]]
        reads = self._state_reads([value for _, value in inputs], source)
        schema = known_schema(target)
        if schema is not None:
            self.schemas[target] = schema
        args = [_renamed(value, reads) for given, value in inputs if given.get("kind") != _KEYWORD]
        kwargs = {given["name"]: _renamed(value, reads) for given, value in inputs if given.get("kind") == _KEYWORD}
        outputs = node["outputs"]
        tuple_of_one = target.startswith("hop.") and node.get("is_hop_single_tensor_return") is False
        if len(outputs) == 1 and not tuple_of_one and any(kind in _SINGLE for kind in outputs[0]):
            name = _name(outputs[0]) or self._free(target)
            self._add(name, "call_function", target, args, kwargs, self.types.get(name), source)
        else:
            self._several(node, target, args, kwargs, source)

    def _several(self, node: Json, target: str, args: list[Any], kwargs: Json, source: Any) -> None:
        """A call with no result, or with several, each of which is a getitem node."""
        outputs = node["outputs"]
        if len(outputs) == 1 and "as_tensors" in outputs[0]:
            outputs = [{"as_tensor": item} for item in outputs[0]["as_tensors"]]
        name = node.get("name") or self._free(target)
        results = [_name(output) for output in outputs]
        found = [self.types.get(result or "") for result in results] if results else None
        self._add(name, "call_function", target, args, kwargs, found, source)
        for index, result in enumerate(results):
            if result:
                item = [{"node": name}, index]
                self._add(result, "call_function", "operator.getitem", item, {}, self.types.get(result), source)

    def _value(self, found: Json, source: Any) -> Any:
        """An argument; a nested graph becomes an attribute that is read."""
        if "as_graph" not in found:
            return argument(found)
        path, name = found["as_graph"]["name"], self._free(found["as_graph"]["name"])
        self.subgraphs[path] = BodyReader(found["as_graph"]["graph"], self.sizes, {}).graph("GraphModule", flat=False)
        self._add(name, "get_attr", path, [], {}, None, source)
        return {"node": name}

    def _state_reads(self, values: list[Any], source: Any) -> dict[str, str]:
        """Adds a get_attr node for each piece of state that one consumer reads; returns its name by placeholder."""
        reads: dict[str, str] = {}
        for name in _references(values):
            if name in self.state and name not in reads:
                fqn = self.state[name]
                self.uses[fqn] += 1
                use = f"_use{self.uses[fqn]}" if self.uses[fqn] > 1 else ""
                reads[name] = self._free(f"{fqn.replace('.', '_')}{use}")
                self._add(reads[name], "get_attr", fqn, [], {}, self.tensors[name], source)
        return reads

    def _free(self, wanted: str) -> str:
        """A node name that nothing else has."""
        base = re.sub(r"\W|^(?=\d)", "_", wanted, flags=re.ASCII)
        name, number = base, 0
        while name in self.names:
            number += 1
            name = f"{base}_{number}"
        self.names.add(name)
        return name


def _as_traced(target: str, value: Any) -> Any:
    """The schema knows lists only; what these operators are handed is a tuple when they are traced."""
    return {"tuple": value} if isinstance(value, list) and target in ("hop.cond", "hop.while_loop") else value


def _source(metadata: Json) -> Json | None:
    found = source_of(metadata.get("stack_trace"))
    return None if found is None else {"at": found.at, "code": found.code}


def _name(output: Json) -> str | None:
    """The node that an output is, if it has one."""
    value = argument(output)
    return value["node"] if isinstance(value, dict) and "node" in value else None


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for kind, content in value.items():
            if kind == "node":
                yield content
            else:
                yield from _references(content)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: names.get(item, item) if key == "node" else _renamed(item, names) for key, item in value.items()}
    return [_renamed(item, names) for item in value] if isinstance(value, list) else value
