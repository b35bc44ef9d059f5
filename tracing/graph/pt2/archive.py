"""The zip file around an exported program: what is in it, and what of that would run code in torch.export.load."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.serialization import get_unsafe_globals_in_checkpoint

from passes.errors import DeadkvError
from tracing.graph.escape import json_text, quoted
from tracing.graph.json_input import parse_json
from tracing.graph.limits import MAX_BYTES, MAX_MEMBERS

# Paths of torch/csrc/export/pt2_archive_constants.h, below the archive's root folder.
MODEL = "models/model.json"
WEIGHTS, CONSTANTS = "data/weights/", "data/constants/"
_CONFIGS = (f"{WEIGHTS}model_weights_config.json", f"{CONSTANTS}model_constants_config.json")
_RUNS_CODE = {
    "data/aotinductor/": "is compiled code, which torch.export.load runs",
    f"{CONSTANTS}opaque_obj_": "is a pickled object: unpickling it runs code",
    f"{CONSTANTS}custom_obj_": "is a pickled TorchBind object: unpickling it runs code",
}
_CHECKPOINTS = ("data/sample_inputs/model.pt", f"{WEIGHTS}model.pt", f"{CONSTANTS}model.pt")
# Rebuilds a fake tensor from its shape and dtype.
_HARMLESS = frozenset({"torch._export.serde.serialize._reconstruct_fake_tensor"})


@dataclass(frozen=True)
class Archive:
    """What is read of an archive.

    Attributes:
        program: the exported program.
        storages: by FQN, the member that holds the values of a parameter, buffer or constant.
        first_names: by FQN, the first name under which that very tensor is registered.
    """

    program: Mapping[str, Any]
    storages: Mapping[str, str]
    first_names: Mapping[str, str]


def is_archive(path: Path) -> bool:
    """Whether the file at `path` is to be read as an archive: by its name, or because it is a zip file."""
    return path.suffix == ".pt2" or (path.is_file() and zipfile.is_zipfile(path))


def read_archive(path: Path) -> Archive:
    """The parts of the archive that are data. Nothing in it is unpickled, evaluated or run.

    Raises:
        DeadkvError: it is no archive of torch.export.save, or holds something that torch.export.load would run.
    """
    try:
        with zipfile.ZipFile(path) as file:
            return _Reader(file).archive()
    except (OSError, zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DeadkvError(f"is no archive of torch.export.save: {reason}") from error


class _Reader:
    def __init__(self, file: zipfile.ZipFile) -> None:
        self.file = file
        self.members = self._members()

    def archive(self) -> Archive:
        if MODEL not in self.members:
            raise DeadkvError(f"is no archive of torch.export.save: it has no {MODEL}; save it again with torch 2.9 up")
        for refusal in self._refusals():
            raise DeadkvError(f"{refusal}; export the program without it")
        return self._archive()

    def _archive(self) -> Archive:
        storages: dict[str, str] = {}
        first_names: dict[str, str] = {}
        owners: dict[str, str] = {}
        for folder, fqn, entry in self._entries():
            storages[fqn] = f"{folder}{entry.get('path_name')}"
            tensor = f"{storages[fqn]} {json_text(entry.get('tensor_meta'))}"
            first_names[fqn] = owners.setdefault(tensor, fqn)
        return Archive(self._json(MODEL), storages, first_names)

    def _members(self) -> dict[str, zipfile.ZipInfo]:
        """By path below the root folder. Members of torch's archives are stored, so sizes are what they say."""
        found = self.file.infolist()
        if len(found) > MAX_MEMBERS:
            raise DeadkvError(f"has more than {MAX_MEMBERS} members, the limit")
        members = {info.filename.partition("/")[2]: info for info in found}
        if len(members) != len(found):
            raise DeadkvError("holds two members of one name")
        for info in found:
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                raise DeadkvError(
                    f"its member {quoted(info.filename)} is compressed, which torch.export.save never does"
                )
        return members

    def _refusals(self) -> Iterator[str]:
        for name in sorted(self.members):
            for prefix, reason in _RUNS_CODE.items():
                if name.startswith(prefix):
                    yield f"its member {quoted(name)} {reason}"
        for name in (*_CHECKPOINTS, *self._pickled()):
            if name in self.members and self.members[name].file_size:
                yield from self._unsafe(name)

    def _pickled(self) -> Iterator[str]:
        """State that is saved with torch.save, which torch.export.load reads with weights_only=False."""
        for folder, _, entry in self._entries():
            if entry.get("use_pickle"):
                yield f"{folder}{entry.get('path_name')}"

    def _unsafe(self, name: str) -> Iterator[str]:
        with self.file.open(self.members[name]) as content:
            try:
                found = get_unsafe_globals_in_checkpoint(content)
            except Exception as error:  # whatever the reader makes of a hostile file
                raise DeadkvError(f"its member {quoted(name)} is no file of torch.save") from error
        for function in sorted(set(found) - _HARMLESS):
            yield f"its member {quoted(name)} unpickles {quoted(function)}, which runs code"

    def _entries(self) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        """Folder, FQN and description of each tensor of the state."""
        for config in _CONFIGS:
            entries = self._json(config).get("config") if config in self.members else None
            for fqn, entry in (entries if isinstance(entries, dict) else {}).items():
                if isinstance(entry, dict):
                    yield config.rpartition("/")[0] + "/", fqn, entry

    def _json(self, name: str) -> Mapping[str, Any]:
        if self.members[name].file_size > MAX_BYTES:
            raise DeadkvError(f"{name}: has more than {MAX_BYTES} bytes, the limit")
        try:
            found = parse_json(self.file.read(self.members[name]))
        except DeadkvError as error:
            raise DeadkvError(f"{name}: {error}") from error
        if not isinstance(found, dict):
            raise DeadkvError(f"{name}: expected an object")
        return found
