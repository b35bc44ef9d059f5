"""Passes with options as text: `prune-prefix-cache{policy=liveness,inplace=true}`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from torch.fx.passes.infra.pass_base import PassBase

from passes.errors import DeadkvError
from passes.registry import pass_named

_SPEC = re.compile(r"(?P<name>[A-Za-z0-9_-]+)(?:\{(?P<options>[^{}]*)\})?$")
_WORDS: Mapping[str, Any] = {"true": True, "false": False, "none": None}


def make_pass(spec: str | PassBase) -> PassBase:
    """A pass from its text form; a pass is passed through.

    Raises:
        DeadkvError: unknown pass or option (the known ones are listed), or a value of the wrong type.
    """
    if isinstance(spec, PassBase):
        return spec
    match = _SPEC.match(spec.strip())
    if match is None:
        raise DeadkvError(f"pass {spec!r}: write it as name or name{{option=value,...}}")
    cls = pass_named(match["name"]).cls
    return cls(**_parse_options(match["name"], cls, match["options"] or ""))


def options_of(cls: type[PassBase]) -> dict[str, dataclasses.Field[Any]]:
    """The fields of a pass class that can be given as text."""
    hints = get_type_hints(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    return {f.name: f for f in fields if f.init and _kinds(hints[f.name]) & {str, bool, int, float}}


def _parse_options(name: str, cls: type[PassBase], text: str) -> dict[str, Any]:
    known, hints = options_of(cls), get_type_hints(cls)
    options: dict[str, Any] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        key, separator, value = (part.strip() for part in item.partition("="))
        if not separator or key not in known:
            raise DeadkvError(f"pass {name}: unknown option {item!r}; options are {', '.join(known)}")
        options[key] = _parse_value(name, key, value, _kinds(hints[key]))
    return options


def _kinds(hint: Any) -> set[Any]:
    return set(get_args(hint)) or {hint}


def _parse_value(name: str, key: str, text: str, kinds: set[Any]) -> Any:
    value: Any = _WORDS.get(text.lower(), text)
    if isinstance(value, str) and kinds & {int, float}:
        value = _number(text)
    if type(value) not in kinds and not (value is None and type(None) in kinds):
        wanted = " or ".join(sorted(kind.__name__ for kind in kinds))
        raise DeadkvError(f"pass {name}: option {key}={text} must be {wanted}")
    return value


def _number(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text
