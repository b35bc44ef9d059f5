"""What goes wrong while tracing, as one line: what failed, on which line of the user's code, what to do."""

from __future__ import annotations

import logging
import os
import re
import sysconfig
import textwrap
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from passes.errors import DeadkvError

_TORCH = f"{Path(torch.__file__).parent}{os.sep}"
_CAPTURE = f"{Path(__file__).parent}{os.sep}"
_STDLIB = f"{sysconfig.get_path('stdlib')}{os.sep}"

# Loggers that print an error which is then raised as well.
_NOISY_LOGGERS = ("torch._subclasses.fake_tensor", "torch.fx.experimental.symbolic_shapes")

_LOOK = "run the model itself on these inputs to see more"
_USE_MAKE_FX = "keep to torch functions, or use the frontend make_fx"


@dataclass(frozen=True)
class _Rule:
    """If `pattern` is found in the text of the errors: what to call it (None: what the error says), what to do."""

    pattern: str
    what: str | None
    advice: str


_RULES = (
    _Rule(
        "more than one element of the written-to tensor",
        "it writes in place into an expanded tensor",
        "clone the tensor (an attention mask, mostly) before the write, or write functionally with torch.where "
        "(torch.func.functionalize would add the writes to one element up)",
    ),
    _Rule(
        "(found two different|at least two) devices,? .*meta",
        "it mixes in a tensor on meta that it does not read from a module",
        "register it as a parameter or buffer (nn.ParameterList for a list), or make it on a real device",
    ),
    _Rule("must be registered as buffers", "it assigns a tensor to an attribute", "register a buffer, or use make_fx"),
    _Rule("in output, which is not a known type", "it returns an object", "return tensors and constants"),
    _Rule(
        "scan must be captured completely",
        "Dynamo in this torch release cannot trace the body of the scan",
        "use the frontend make_fx or export",
    ),
    _Rule("Observed exception|failed to run FX node", None, _LOOK),
    _Rule(
        "[Dd]ata-dependent|DataDependent|DynamicOutputShape|value out of a tracing tensor",
        "its control flow or a shape depends on the values of a tensor",
        "use torch.where, torch.cond or a Python constant",
    ),
    _Rule("(?m)^Unsupported:", None, _USE_MAKE_FX),
    _Rule("", None, _LOOK),
)

# Where Dynamo quotes the error that it met, and where it explains one of its own.
_QUOTED = re.compile(r"""(?:got|raised exception) (\w+)\(.*?(['"])(.+?)\2""", re.DOTALL)
_EXPLAINED = re.compile(r"Explanation: (.+)")


@contextmanager
def one_line(frontend: str, run: Callable[[], object]) -> Iterator[None]:
    """Turn whatever a frontend or the model raises into a `DeadkvError`; the original stays its cause.

    `run` calls the model on its stand-ins. It finds the line where the frontend kept none: Dynamo unwinds its
    stack before it reports an exception that the model raises.
    """
    try:
        with _quiet_loggers():
            yield
    except DeadkvError:
        raise
    except Exception as error:
        raise DeadkvError(_message(error, frontend, run)) from error


def _message(error: Exception, frontend: str, run: Callable[[], object]) -> str:
    chain = _chain(error)
    text = "\n".join(f"{type(e).__name__}: {e}" for e in chain)
    rule = next(rule for rule in _RULES if re.search(rule.pattern, text))
    what = rule.what or textwrap.shorten(_said(text, chain[-1]), 200, placeholder="...")
    line = _line_of(error) or _line_of(_raised_by(run))
    where = f" at {line}" if line else ""
    return f"the model cannot be captured with {frontend}{where}: {what}; {rule.advice}"


def _raised_by(run: Callable[[], object]) -> Exception | None:
    try:
        run()
    except Exception as error:
        return error
    return None


def _line_of(error: Exception | None) -> str | None:
    chain = _chain(error) if error else ()
    return next((line for e in reversed(chain) if (line := _user_line(e))), None)


def _chain(error: BaseException) -> Sequence[BaseException]:
    """An error, then what caused it, and so on."""
    chain = [error]
    while cause := chain[-1].__cause__ or (None if chain[-1].__suppress_context__ else chain[-1].__context__):
        chain.append(cause)
    return chain


def _said(text: str, root: BaseException) -> str:
    if quoted := _QUOTED.search(text):
        return f"{quoted[1]}: {quoted[3]}"
    if explained := _EXPLAINED.search(text):
        return explained[1]
    return f"{type(root).__name__}: {root}"


def _user_line(error: BaseException) -> str | None:
    """Innermost line of the user's; Dynamo, which runs no frame of the model, keeps a stack of its own."""
    frames = [*traceback.extract_tb(error.__traceback__), *(getattr(error, "real_stack", None) or ())]
    own = [frame for frame in frames if _is_user_file(frame.filename)]
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else None


def _is_user_file(name: str) -> bool:
    in_stdlib = name.startswith(_STDLIB) and "site-packages" not in name
    return not (in_stdlib or name.startswith((_TORCH, _CAPTURE, "<")))


@contextmanager
def _quiet_loggers() -> Iterator[None]:
    """Keep loggers from printing what is about to be raised; what TORCH_LOGS asks for, below warnings, stays."""
    with ExitStack() as stack:
        for logger in map(logging.getLogger, _NOISY_LOGGERS):
            logger.addFilter(_below_warning)
            stack.callback(logger.removeFilter, _below_warning)
        yield


def _below_warning(record: logging.LogRecord) -> bool:
    return record.levelno < logging.WARNING
