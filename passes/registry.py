"""The passes that can be asked for by name, with options: `prune-prefix-cache{policy=liveness}`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args, get_type_hints

from torch.fx.passes.infra.pass_base import PassBase

from passes.errors import DeadkvError

PassClass = TypeVar("PassClass", bound=type[PassBase])

_REGISTRY: dict[str, type[PassBase]] = {}
_SPEC = re.compile(r"(?P<name>[A-Za-z0-9_-]+)(?:\{(?P<options>[^{}]*)\})?$")
_WORDS: Mapping[str, Any] = {"true": True, "false": False, "none": None}


def register_pass(name: str) -> Callable[[PassClass], PassClass]:
    """Class decorator: makes a pass, a dataclass derived from torch.fx's PassBase, available under `name`.

    The dataclass fields of simple type (str, bool, int, float) are its options. A later class replaces an earlier one.
    """

    def register(cls: PassClass) -> PassClass:
        if not hasattr(cls, "__dataclass_fields__"):
            raise DeadkvError(f"pass {name!r}: {cls.__name__} must be a dataclass, whose fields are its options")
        _REGISTRY[name] = cls
        return cls

    return register


def available_passes() -> Mapping[str, type[PassBase]]:
    """Every registered pass class by name, in alphabetical order."""
    return dict(sorted(_REGISTRY.items()))


def options_of(cls: type[PassBase]) -> dict[str, dataclasses.Field[Any]]:
    """The fields of a pass class that can be given as text."""
    hints = get_type_hints(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    return {f.name: f for f in fields if f.init and _kinds(hints[f.name]) & {str, bool, int, float}}


def make_pass(spec: str | PassBase) -> PassBase:
    """A pass from its text form, such as `prune-prefix-cache{policy=liveness,inplace=true}`; a pass is passed through.

    Raises:
        DeadkvError: unknown pass or option (the known ones are listed), or a value of the wrong type.
    """
    if isinstance(spec, PassBase):
        return spec
    match = _SPEC.match(spec.strip())
    if match is None:
        raise DeadkvError(f"pass {spec!r}: write it as name or name{{option=value,...}}")
    name = match["name"]
    if name not in _REGISTRY:
        raise DeadkvError(f"unknown pass {name!r}: available are {', '.join(available_passes())}")
    cls = _REGISTRY[name]
    return cls(**_parse_options(name, cls, match["options"] or ""))


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
