"""The same graph gives the same bytes, whatever the process and its hash seed; `uuid()` tells all else apart."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import passes
from passes import (
    Contract,
    DedupPrefixCache,
    EmptyTensor,
    PrunePrefixCache,
    TkgContext,
    register_contract,
    register_marker,
)
from passes.contracts import Contracts, Marker
from passes.inference import InferringContracts
from tests.support import outcomes
from tests.support.builder import decode_graph

PASSES = (PrunePrefixCache, DedupPrefixCache)
SEEDS = ("0", "1", "42", "4242", str(2**32 - 1))
ROOT = Path(__file__).parents[1]


def started(*command: str, folder: Path = ROOT, seed: str = "0") -> subprocess.Popen[bytes]:
    """A Python process that finds the packages of `folder` first."""
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(
        [sys.executable, *command], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def printed(process: subprocess.Popen[bytes]) -> bytes:
    output, errors = process.communicate()
    assert process.returncode == 0, errors.decode()
    return output


def test_five_processes_give_the_same_bytes() -> None:
    running = [started("-m", "tests.support.outcomes", seed=seed) for seed in SEEDS]
    first, *others = (printed(process) for process in running)
    found = json.loads(first)
    assert list(found) == [*outcomes.CASES, "symbolic", *outcomes.COMPILED]
    assert [len(found[target]) for target in outcomes.COMPILED] == [13, 12]
    for seed, other in zip(SEEDS[1:], others, strict=True):
        for name, parts in json.loads(other).items():
            differing = [part for part in parts if parts[part] != found[name][part]]
            assert not differing, f"{name} with PYTHONHASHSEED={seed}"
        assert other == first


# What changes each field of a pass but `inplace`, as often as it matters.
CONTRACT = Contract("lib::attend", {"x", "pool"}, stand_in={"prior": "x", "mask": None})
TABLES = (
    Contracts(),
    Contracts({"lib::attend": CONTRACT}),
    Contracts({"lib::other": CONTRACT}),
    Contracts(by_base_name={"lib::attend": CONTRACT}),
    Contracts(markers={"lib::attend": Marker("lib::attend")}),
    *(
        Contracts({"lib::attend": changed})
        for changed in (
            replace(CONTRACT, op="lib::other"),
            replace(CONTRACT, reads={"x"}),
            replace(CONTRACT, writes=()),
            replace(CONTRACT, writes={"pool"}),
            replace(CONTRACT, stand_in={"prior": "x"}),
            replace(CONTRACT, stand_in={"prior": "x", "mask": "x"}),
            replace(CONTRACT, stand_in={"prior": "x", "mask": EmptyTensor()}),
            replace(CONTRACT, stand_in={"prior": "x", "mask": EmptyTensor((1,))}),
            replace(CONTRACT, inferred=True),
        )
    ),
)
CONTEXTS = (
    TkgContext(),
    TkgContext(pools=("a",)),
    TkgContext(pools=("b",)),
    TkgContext(pools=("a", "b")),
    TkgContext(pools=("a, b",)),
    TkgContext(block_table="a"),
    *(
        TkgContext(**{found.name: value})
        for found in fields(TkgContext)
        if found.name not in ("pools", "block_table")
        for value in (False, True)
    ),
)
CHANGES: dict[type[Any], dict[str, tuple[Any, ...]]] = {
    PrunePrefixCache: {
        "policy": ("liveness",),
        "context": CONTEXTS,
        "contracts": TABLES,
        "shrink_inputs": (True,),
        "infer_contracts": (True,),
    },
    DedupPrefixCache: {"context": CONTEXTS, "contracts": TABLES},
}


@pytest.mark.parametrize("cls", PASSES)
@pytest.mark.usefixtures("own_contracts")
def test_every_option_changes_the_uuid(cls: type[Any]) -> None:
    changes = CHANGES[cls]
    assert {found.name for found in fields(cls)} - {"inplace"} == set(changes)
    changed = [cls(**{name: value}) for name, values in changes.items() for value in values]
    found = [step.uuid() for step in (cls(), *changed)]
    assert len(set(found)) == len(found)


@pytest.mark.usefixtures("own_contracts")
def test_the_two_passes_differ() -> None:
    assert PrunePrefixCache().uuid() != DedupPrefixCache().uuid()


@pytest.mark.parametrize("cls", PASSES)
def test_editing_in_place_gives_the_same_result_and_the_same_uuid(cls: type[Any]) -> None:
    made: Callable[[], Any] = outcomes.gathered_twice if cls is DedupPrefixCache else decode_graph
    steps = [cls(**{**outcomes.LIVENESS[cls], "inplace": inplace}) for inplace in (False, True)]
    results = [outcomes.outcome(made(), step) for step in steps]
    assert results[0] == results[1]


@pytest.mark.parametrize("cls", PASSES)
def test_the_order_of_registration_is_no_difference(cls: type[Any]) -> None:
    others = [replace(CONTRACT, op="lib::other", reads={"x"}), replace(CONTRACT, op="lib::third")]
    tables = [{found.op: found for found in order} for order in ([CONTRACT, *others], [*others, CONTRACT])]
    assert cls(contracts=Contracts(tables[0])).uuid() == cls(contracts=Contracts(tables[1])).uuid()


@pytest.mark.parametrize("cls", PASSES)
@pytest.mark.usefixtures("own_contracts")
def test_what_is_registered_changes_the_uuid_until_it_is_withdrawn(cls: type[Any]) -> None:
    registrations: list[Callable[[], Any]] = [
        lambda: register_contract("lib::attend", reads={"x"}),
        lambda: register_contract("lib::attend", reads={"x", "y"}),
        lambda: register_marker("lib::attend"),
    ]
    found = [cls().uuid()]
    for register in registrations:
        with register():
            found.append(cls().uuid())
    assert len(set(found)) == len(registrations) + 1 and None not in found
    assert cls().uuid() == found[0]


def edited(module: ModuleType, text: str) -> ModuleType:
    """The module, from another text: of another length, so that no bytecode of the old one is taken for it."""
    assert module.__file__ is not None
    Path(module.__file__).write_text(text)
    return importlib.reload(module)


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A package of somebody's, `identified`, with a contract's function and a helper beside it."""
    package = tmp_path / "identified"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "helper.py").write_text("NAMES = {'x'}\n")
    (package / "contract.py").write_text("from identified.helper import NAMES\ndef reads(bound): return NAMES\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in ("identified", "identified.helper", "identified.contract"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("identified.contract")


@pytest.mark.parametrize("cls", PASSES)
def test_a_contracts_function_is_known_by_its_name_and_its_package(cls: type[Any], library: ModuleType) -> None:
    def uuid(operands: str) -> Any:
        contract = Contract("lib::attend", **{"reads": {"x"}, operands: library.reads})  # type: ignore[arg-type]
        return cls(contracts=Contracts({"lib::attend": contract})).uuid()

    assert isinstance(uuid("reads"), str) and uuid("reads") == uuid("reads") != uuid("writes")
    found = [uuid("reads")]
    text = Path(str(library.__file__)).read_text()
    for source in (text + "#\n", text + "##\n"):
        edited(library, source)
        found.append(uuid("reads"))
    edited(sys.modules["identified.helper"], "NAMES = {'x', 'pool'}\n")
    edited(library, text)
    found.append(uuid("reads"))
    assert len(set(found)) == 4 and None not in found


@dataclass(frozen=True)
class Renamed(PrunePrefixCache):
    """Somebody's pass, made of ours."""


@dataclass(frozen=True)
class Listed(PrunePrefixCache):
    """A pass with an option of which nobody knows what it holds."""

    extra: Any = None


def reads_x(bound: Any) -> set[str]:
    return {"x"}


class Reads:
    """A contract's function that is an object."""

    def __call__(self, bound: Any) -> set[str]:
        return {"x"}


@pytest.mark.usefixtures("own_contracts")
def test_a_pass_made_of_ours_is_another_pass() -> None:
    assert None not in {Renamed().uuid(), Listed().uuid()}
    assert len({PrunePrefixCache().uuid(), Renamed().uuid(), Listed().uuid()}) == 3


def local_pass() -> PrunePrefixCache:
    @dataclass(frozen=True)
    class Local(PrunePrefixCache):
        pass

    return Local()


def test_what_no_source_pins_down_is_never_cached() -> None:
    assert PrunePrefixCache(infer_contracts=True).uuid() is None
    assert Listed(extra=[1]).uuid() is None
    assert local_pass().uuid() is None
    for cls in PASSES:
        assert cls(contracts=InferringContracts()).uuid() is None
        assert cls(contracts=Contracts({"lib::attend": Contract("lib::attend", reads_x)})).uuid() is not None
        for function in (lambda bound: {"x"}, partial(reads_x), Reads()):
            for given in ({"reads": function}, {"reads": {"x"}, "writes": function}):
                contract = Contract("lib::attend", **given)  # type: ignore[arg-type]
                assert cls(contracts=Contracts({"lib::attend": contract})).uuid() is None
    with ExitStack() as registered:
        registered.enter_context(register_contract("lib::attend", reads=lambda bound: {"x"}))
        assert {cls().uuid() for cls in PASSES} == {None}


def lengthened(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


EDITS: dict[str, Callable[[Path], object]] = {
    "none": lambda folder: None,
    "a byte": lambda folder: lengthened(folder / "demand" / "shapes.py"),
    "a new file": lambda folder: (folder / "ops" / "more.py").write_text(""),
    "a renamed file": lambda folder: (folder / "py.typed").rename(folder / "typed.py"),
}
SHOW = """
import sys
for folder in sys.argv[1:]:
    sys.path.insert(0, folder)
    import passes
    from passes.contracts import Contracts
    steps = [cls(contracts=Contracts()) for cls in (passes.PrunePrefixCache, passes.DedupPrefixCache)]
    print(passes.__file__, *(step.uuid() for step in steps))
    for name in [name for name in sys.modules if name.partition(".")[0] == "passes"]:
        del sys.modules[name]
"""


def test_every_edit_of_the_sources_changes_the_uuid_and_their_place_does_not(tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(len(EDITS))]
    for folder, edit in zip(folders, EDITS.values(), strict=True):
        shutil.copytree(Path(passes.__file__).parent, folder / "passes", ignore=shutil.ignore_patterns("__pycache__"))
        edit(folder / "passes")
    process = started("-c", SHOW, *map(str, folders), folder=tmp_path, seed="7")
    rows = [line.split() for line in printed(process).decode().splitlines()]
    assert [row[0] for row in rows] == [str(folder / "passes" / "__init__.py") for folder in folders]
    assert rows[0][1:] == [cls(contracts=Contracts()).uuid() for cls in PASSES]
    for column in (1, 2):
        assert len({row[column] for row in rows}) == len(EDITS)
