"""Read a Hugging Face checkpoint folder: model.safetensors, or shards and model.safetensors.index.json."""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from passes.errors import DeadkvError
from tracing.decoder.model import Decoder
from tracing.decoder.weights import load_tensors

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"


def load_safetensors_folder(decoder: Decoder, path: str | Path) -> None:
    """Copy the weights in a checkpoint folder into the decoder, one tensor at a time, cast to its dtype.

    Raises DeadkvError, before anything is written, for a folder, index or file that is missing or corrupt, and
    for a tensor that is missing, unexpected or of the wrong shape.
    """
    folder = Path(path)
    with ExitStack() as stack:
        tensors = _open_tensors(folder, stack)
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name, file in tensors.items()}
        load_tensors(decoder, shapes, lambda name: tensors[name].get_tensor(name))


def _open_tensors(folder: Path, stack: ExitStack) -> dict[str, Any]:
    """Each tensor's name and the open file that holds it."""
    if (folder / _INDEX).is_file():
        shard_of = _read_index(folder / _INDEX)
        files = {shard: _open(folder / shard, stack) for shard in sorted(set(shard_of.values()))}
        tensors = {name: files[shard] for name, shard in shard_of.items()}
    elif (folder / _SINGLE).is_file():
        file = _open(folder / _SINGLE, stack)
        return dict.fromkeys(file.keys(), file)
    else:
        raise DeadkvError(f"{folder}: no checkpoint folder: it has neither {_SINGLE} nor {_INDEX}")
    held = {shard: frozenset(file.keys()) for shard, file in files.items()}
    for name, shard in shard_of.items():
        if name not in held[shard]:
            raise DeadkvError(f"{folder / shard}: tensor {name} is missing, though {_INDEX} says it is there")
    return tensors


def _read_index(path: Path) -> Mapping[str, str]:
    try:
        shard_of = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DeadkvError(f"{path}: not a safetensors index with a weight_map: {error}") from error
    if not isinstance(shard_of, dict) or not all(_is_file_name(shard) for shard in shard_of.values()):
        raise DeadkvError(f"{path}: weight_map must map tensor names to names of files in the same folder")
    return shard_of


def _is_file_name(shard: object) -> bool:
    return isinstance(shard, str) and shard not in ("", ".", "..") and Path(shard).name == shard


def _open(path: Path, stack: ExitStack) -> Any:
    try:
        return stack.enter_context(safe_open(path, framework="pt", device="cpu"))
    except (OSError, SafetensorError) as error:
        raise DeadkvError(f"{path}: not a readable safetensors file: {error}") from error
