"""JSON from outside: read with limits on size and number of values, and refused in one line."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

from passes.errors import DeadkvError
from tracing.graph.escape import quoted
from tracing.graph.limits import MAX_BYTES, MAX_VALUES

_LITERALS = ("true", "false", "null")


def read_bytes(path: Path) -> bytes:
    """The content of a file of at most `MAX_BYTES`. Raises DeadkvError, without the path, where there is none."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)  # not the size that the file system states: a pipe has none
    except IsADirectoryError as error:
        raise DeadkvError("is a directory; name the file in it") from error
    except (OSError, ValueError) as error:
        raise DeadkvError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > MAX_BYTES:
        raise DeadkvError(f"has more than {MAX_BYTES} bytes, the limit")
    return content


def parse_json(content: bytes | str) -> Any:
    """The value that `content` (UTF-8) holds, each key of an object once. Raises DeadkvError saying what is wrong."""
    try:
        text = content.decode("utf-8") if isinstance(content, bytes) else content
        _check_count(text)
        return json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise DeadkvError(f"not UTF-8 text (byte {error.start})") from error
    except json.JSONDecodeError as error:
        rest = text[error.pos :].strip()
        ending = error.msg.startswith("Unterminated") or any(word.startswith(rest) for word in _LITERALS)
        what = "the file ends too early; it was cut short" if ending else f"not JSON: {error.msg}"
        raise DeadkvError(f"line {error.lineno}, column {error.colno}: {what}") from error
    except RecursionError as error:
        raise DeadkvError("the JSON is nested too deep") from error
    except ValueError as error:
        raise DeadkvError("holds an integer with more digits than Python converts") from error


def _check_count(text: str) -> None:
    """Counts what can precede a value, strings included: a bound that costs no memory."""
    if sum(text.count(mark) for mark in ",:[{") > MAX_VALUES:
        raise DeadkvError(f"holds more than {MAX_VALUES} values, the limit")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        ((key, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise DeadkvError(f"the key {quoted(key)} occurs twice in one object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise DeadkvError(f'{name} is not JSON; a graph file writes {{"float": "nan"}}')
