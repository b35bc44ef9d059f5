"""What passes between a backend run and the process that lowers one graph: files in a folder of its own, all JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

GRAPH_FILE, JOB_FILE, MODULE_FILE, FACTS_FILE, ERROR_FILE = "graph.json", "job.json", "module.pb", "facts.json", "error"


@dataclass(frozen=True)
class Spec:
    """A tensor without values: name, shape, and dtype as torch names it ("int32")."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Job:
    """What to lower `graph.json` with. `inputs` holds every placeholder in order; None is one that is no tensor.

    `aliased` are the inputs and parameters whose new value is an output already.
    """

    target: str
    inputs: tuple[Spec | None, ...]
    aliased: tuple[str, ...]

    def write(self, folder: Path) -> None:
        """Write the job into `folder`."""
        (folder / JOB_FILE).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Job:
        """The job in `folder`."""
        found = json.loads((folder / JOB_FILE).read_text(encoding="utf-8"))
        inputs = tuple(None if spec is None else _spec(spec) for spec in found["inputs"])
        return cls(found["target"], inputs, tuple(found["aliased"]))


@dataclass(frozen=True)
class Held:
    """An input or parameter of the lowered graph. `number` is its parameter in `module.pb`, -1 for one not in it."""

    spec: Spec
    kind: str
    number: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Constant:
    """A number that torch_xla passes as a parameter: its parameter in `module.pb`, dtype and value."""

    number: int
    dtype: str
    value: float | int | bool


@dataclass(frozen=True)
class Facts:
    """What is known about `module.pb`.

    `held` are the inputs in order, then the parameters by name. `outputs` are the results: those of the graph, then the
    new values of `written`, the inputs and parameters that it writes in place and that are not in `Job.aliased`.
    """

    held: tuple[Held, ...]
    constants: tuple[Constant, ...]
    outputs: tuple[Spec, ...]
    written: tuple[str, ...]

    def write(self, folder: Path) -> None:
        """Write the facts into `folder`."""
        (folder / FACTS_FILE).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Facts:
        """The facts in `folder`."""
        found = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
        return cls(
            tuple(Held(_spec(h["spec"]), h["kind"], h["number"], tuple(h["names"])) for h in found["held"]),
            tuple(Constant(**constant) for constant in found["constants"]),
            tuple(_spec(spec) for spec in found["outputs"]),
            tuple(found["written"]),
        )


def _spec(found: Mapping[str, str | Sequence[int]]) -> Spec:
    return Spec(str(found["name"]), tuple(int(size) for size in found["shape"]), str(found["dtype"]))
