"""What every backend takes and gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from passes.errors import DeadkvError

TIME_LIMIT_S = 4 * 3600.0
"""How long a compiler may run if the caller does not say."""


def _silent(line: str) -> None:
    del line


@dataclass(frozen=True)
class BackendRequest:
    """One compilation: the graph as captured, the graph to compile, and where the files go.

    `before` and `after` hold their parameters as `get_attr` nodes under the model's names; `example_inputs` are the
    placeholders of `before` in order (real, fake or meta tensors: only a backend that says so reads their values);
    `after` may take fewer of them, found by name.
    `aliases` pairs the name of a parameter or placeholder with the index of the flat output that holds its new value.
    `log` is given each line that a compiler prints, `progress` the name of each stage.
    `timeout_s` is in seconds, None for no limit, and counts for compilers that run as a process of their own.
    `dry_run` asks for the compiler's input and command line only, even where the compiler is installed.
    """

    before: GraphModule
    after: GraphModule
    example_inputs: tuple[Tensor, ...]
    aliases: tuple[tuple[str, int], ...]
    target: str
    out_dir: Path
    compiler_args: tuple[str, ...] = ()
    log: Callable[[str], None] = _silent
    progress: Callable[[str], None] = _silent
    timeout_s: float | None = TIME_LIMIT_S
    dry_run: bool = False

    def named_inputs(self) -> dict[str, Any]:
        """The example inputs by placeholder name, one for each leaf of an input that is a container.

        Raises DeadkvError if there are more or fewer than `before` takes.
        """
        names = [str(node.target) for node in self.before.graph.find_nodes(op="placeholder")]
        examples = pytree.tree_leaves(self.example_inputs)
        if len(names) != len(examples):
            raise DeadkvError(f"the graph takes {len(names)} inputs, but {len(examples)} example inputs were given")
        return dict(zip(names, examples, strict=True))


@dataclass(frozen=True)
class BackendResult:
    """What a backend wrote and ran. `artefacts` and `log_file` are names relative to the request's `out_dir`.

    `command` is the compiler's command line, to be run inside `out_dir`; `exit_code` is None where no process ran.
    """

    backend: str
    artefacts: tuple[str, ...]
    command: tuple[str, ...] | None
    exit_code: int | None
    log_file: str | None
    message: str

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "name": self.backend,
            "artefacts": list(self.artefacts),
            "command": None if self.command is None else list(self.command),
            "exit_code": self.exit_code,
            "log_file": self.log_file,
            "message": self.message,
        }


class Backend(Protocol):
    """A way to hand the graph on.

    `available` says whether the compiler behind it is installed, `can_run` whether `run` does something useful all the
    same (write the compiler's input and command line). Neither imports what it looks for. `needs_weights` says that
    parameters without values will not do, `can_dry_run` that it can do without running a compiler.
    """

    @property
    def name(self) -> str: ...

    @property
    def install_hint(self) -> str: ...

    @property
    def needs_weights(self) -> bool: ...

    @property
    def can_dry_run(self) -> bool: ...

    def available(self) -> bool: ...

    def can_run(self) -> bool: ...

    def run(self, request: BackendRequest) -> BackendResult:
        """Write the artefacts into `request.out_dir`. Raises DeadkvError if the graph or a tool will not do."""
        ...
