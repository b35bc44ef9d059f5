"""An exported program as a graph document, in the normal form of `capture`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from passes.errors import DeadkvError
from tracing.graph import decode
from tracing.graph.check import check
from tracing.graph.document import GraphDoc
from tracing.graph.escape import quoted, shortened
from tracing.graph.natural import natural
from tracing.graph.pt2.archive import MODEL, Archive, read_archive
from tracing.graph.pt2.body import BodyReader, Json
from tracing.graph.pt2.types import Sizes

SCHEMA_MAJOR = 8  # of torch/_export/serde/schema.py, in torch 2.9 to 2.13
_STATE = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}
_MUTATIONS = {
    "buffer_mutation": "buffer_name",
    "parameter_mutation": "parameter_name",
    "user_input_mutation": "user_input_name",
}


def load_archive(path: Path) -> GraphDoc:
    """The graph of a `.pt2` archive, read as data: no pickle in it is loaded, no weight is read.

    Parameters, buffers and constants are get_attr nodes of each consumer; outputs that are the new value of state or
    of an input come first, as torch orders them, and are recorded as aliases.

    Raises:
        DeadkvError: naming the file and what is wrong, or what torch.export.load would run.
    """
    try:
        return read_program(read_archive(path))
    except DeadkvError as error:
        raise DeadkvError(f"{path}: {error}") from error


def read_program(archive: Archive) -> GraphDoc:
    """The graph of an archive. Raises DeadkvError if it is no exported program that deadkv reads."""
    try:
        doc = decode.graph(_graph(archive))
    except DeadkvError:
        raise
    except Exception as error:  # whatever a hostile program does to the reader, the answer is one line
        what = shortened(f"{type(error).__name__}: {error}")
        raise DeadkvError(f"{MODEL}: does not fit torch's export schema {SCHEMA_MAJOR}: {what}") from error
    check(doc)
    return doc


def _graph(archive: Archive) -> Json:
    version = archive.program["schema_version"]["major"]
    if version != SCHEMA_MAJOR:
        raise DeadkvError(f"its export schema is version {version}; this deadkv reads {SCHEMA_MAJOR}")
    module = archive.program["graph_module"]
    specs = [_only(spec) for spec in module["signature"]["input_specs"]]
    state = {c["arg"]["name"]: _first(c[_STATE[kind]], archive) for kind, c in specs if kind in _STATE}
    for kind, _ in specs:
        if kind not in (*_STATE, "user_input", "constant_input"):
            raise DeadkvError(f"has an input of kind {quoted(kind)}, which deadkv does not read")
    body = BodyReader(module["graph"], Sizes(), state)
    found = body.graph("ExportedProgram", flat=True)
    types = {fqn: body.tensors[name] for name, fqn in state.items()}
    aliases = _aliases(module["signature"]["output_specs"], archive)
    used = {node["target"] for node in found["nodes"] if node["op"] == "get_attr"} | {name for name, _ in aliases}
    parameters = _parameters(sorted((fqn for fqn in types if fqn in used), key=natural), types, archive)
    return {**found, "parameters": parameters, "aliases": aliases}


def _only(spec: Json) -> tuple[str, Any]:
    ((kind, content),) = spec.items()
    return kind, content


def _first(fqn: str, archive: Archive) -> str:
    """Tied state goes by the first of its names, as `capture` calls it."""
    return archive.first_names.get(fqn, fqn)


def _aliases(specs: list[Json], archive: Archive) -> list[list[Any]]:
    found = [(index, *_only(spec)) for index, spec in enumerate(specs)]
    return [[_first(content[_MUTATIONS[kind]], archive), index] for index, kind, content in found if kind in _MUTATIONS]


def _parameters(names: list[str], types: dict[str, Any], archive: Archive) -> list[Json]:
    """State that shares its values with an earlier one is tied to it."""
    owners: dict[str, str] = {}
    owned = [(fqn, owners.setdefault(archive.storages.get(fqn, fqn), fqn)) for fqn in names]
    return [{"fqn": fqn, "type": types[fqn], "tied_to": None if owner == fqn else owner} for fqn, owner in owned]
