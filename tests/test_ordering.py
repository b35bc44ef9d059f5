"""Ordering constraints, passes that packages bring, and passes that are switched off."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.fx import GraphModule
from torch.fx.passes.infra.pass_base import PassBase, PassResult

from passes import DeadkvError, PassPipeline, PrunePrefixCache, available_passes, register_pass, registry
from passes.ordering import Constraints, ordered
from passes.specs import make_pass
from tests.support.builder import decode_graph


def order(names: str, **constraints: Constraints) -> str:
    """One-letter passes in the order to run."""
    return "".join(names[position] for position in ordered(names, constraints))


@pytest.mark.parametrize(
    ("names", "constraints", "wanted"),
    [
        ("cab", {}, "cab"),
        ("cab", {"a": Constraints(before=("c",))}, "acb"),
        ("cab", {"c": Constraints(after=("b",))}, "abc"),
        ("cab", {"c": Constraints(requires=("b",))}, "abc"),
        ("cab", {"b": Constraints(before=("z",), after=("y",))}, "cab"),
        ("aba", {"a": Constraints(before=("b",))}, "aab"),
        ("aba", {"a": Constraints(before=("a",))}, "aba"),
        ("dcba", {"a": Constraints(before=("b",)), "b": Constraints(before=("c",))}, "dabc"),
    ],
)
def test_passes_run_as_given_unless_a_constraint_says_otherwise(
    names: str, constraints: dict[str, Constraints], wanted: str
) -> None:
    assert order(names, **constraints) == wanted


@given(st.permutations("abcdef"), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=8))
def test_every_order_that_can_be_satisfied_is_and_no_more_is_moved(
    names: list[str], pairs: list[tuple[int, int]]
) -> None:
    """Constraints that point one way through the alphabet have no cycle."""
    stated: dict[str, tuple[str, ...]] = {}
    for first, second in (sorted(pair) for pair in pairs if pair[0] != pair[1]):
        stated["abcdef"[first]] = (*stated.get("abcdef"[first], ()), "abcdef"[second])
    constraints = {name: Constraints(before=later) for name, later in stated.items()}
    found = order("".join(names), **constraints)
    assert sorted(found) == sorted(names)
    assert all(found.index(name) < found.index(other) for name, later in stated.items() for other in later)
    assert order(found, **constraints) == found


def test_a_cycle_is_named() -> None:
    constraints = {"a": Constraints(before=("b",)), "b": Constraints(before=("c",)), "c": Constraints(before=("a",))}
    with pytest.raises(DeadkvError, match=r"must each run before the next: (a -> b -> c -> a|b -> c -> a -> b|c -> a)"):
        order("xabc", **constraints)


def test_a_missing_requirement_is_named() -> None:
    with pytest.raises(DeadkvError, match="pass a requires pass b: add it to the pipeline"):
        order("a", a=Constraints(requires=("b",)))


@dataclass(frozen=True)
class Note(PassBase):
    """Does nothing. Tests make passes of it."""

    name: str = "note"

    def call(self, graph_module: GraphModule) -> PassResult:
        return PassResult(graph_module, False)


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))


@pytest.mark.usefixtures("own_registry")
def test_a_pipeline_keeps_the_constraints_its_passes_were_registered_with() -> None:
    register_pass("note", before=["prune-prefix-cache"])(Note)
    pipeline = PassPipeline(["dedup-prefix-cache", "prune-prefix-cache", "note"])
    assert [run.name for run in pipeline(decode_graph()).runs] == ["note", "prune-prefix-cache", "dedup-prefix-cache"]
    register_pass("note", requires=["scan-weights"])(Note)
    with pytest.raises(DeadkvError, match="pass note requires pass scan-weights"):
        PassPipeline(["note"])


PLUGIN = """
from dataclasses import dataclass
from torch.fx.passes.infra.pass_base import PassBase, PassResult
from passes import register_pass

@register_pass("plugged", after=["prune-prefix-cache"])
@dataclass(frozen=True)
class Plugged(PassBase):
    level: int = 1
    name = "plugged"

    def call(self, graph_module):
        return PassResult(graph_module, False)

@dataclass(frozen=True)
class Unregistered(PassBase):
    name = "unregistered"

    def call(self, graph_module):
        return PassResult(graph_module, False)

NOTHING = 3
"""
ENTRY_POINTS = """[deadkv.passes]
plugged = deadkv_test_plugin:Plugged
unregistered = deadkv_test_plugin:Unregistered
nothing = deadkv_test_plugin:NOTHING
gone = deadkv_no_such_module:Gone
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_registry: None) -> Iterator[None]:
    """An installed package that brings passes."""
    (tmp_path / "deadkv_test_plugin.py").write_text(PLUGIN)
    info = tmp_path / "deadkv_test_plugin-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: deadkv-test-plugin\nVersion: 1\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("deadkv_test_plugin", None)


@pytest.mark.usefixtures("plugin")
def test_an_installed_package_brings_passes_which_are_imported_when_asked_for() -> None:
    assert "deadkv_test_plugin" not in sys.modules
    assert make_pass("plugged{level=3}").level == 3  # type: ignore[attr-defined]
    pipeline = PassPipeline(["plugged", "unregistered", "prune-prefix-cache"])
    names = [run.name for run in pipeline(decode_graph()).runs]
    assert names == ["unregistered", "prune-prefix-cache", "plugged"]


@pytest.mark.usefixtures("plugin")
def test_all_passes_are_listed_and_one_that_does_not_import_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    found = available_passes()
    assert {"plugged", "unregistered", "prune-prefix-cache"} <= set(found) and list(found) == sorted(found)
    assert "gone" not in found and "nothing" not in found
    warned = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == 2 and "pass 'gone' (deadkv_no_such_module:Gone) cannot be imported" in warned[0]


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gone", r"pass 'gone' \(deadkv_no_such_module:Gone\) cannot be imported: ModuleNotFoundError"),
        ("nothing", r"pass 'nothing': deadkv_test_plugin:NOTHING is no torch.fx PassBase class"),
        ("plugs", r"unknown pass 'plugs': available are .*gone, nothing, plugged"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_one_line(spec: str, message: str) -> None:
    with pytest.raises(DeadkvError, match=message):
        PassPipeline([spec])


LIVENESS = "prune-prefix-cache{policy=liveness}"


def test_a_pass_is_switched_off_by_name(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    pipeline, module = PassPipeline([LIVENESS, "dedup-prefix-cache"]), decode_graph()
    monkeypatch.setenv("DEADKV_DISABLE", "prune-prefix-cache, note-that-is-given")
    with pytest.raises(DeadkvError, match="DEADKV_DISABLE: unknown pass 'note-that-is-given': available are"):
        pipeline(module)
    monkeypatch.setenv("DEADKV_DISABLE", "prune-prefix-cache")
    with caplog.at_level(logging.INFO, "deadkv"):
        result = pipeline(module)
    assert result.graph_module is module and [run.disabled for run in result.runs] == [True, False]
    assert caplog.records[0].message == "prune-prefix-cache: disabled by DEADKV_DISABLE"
    monkeypatch.delenv("DEADKV_DISABLE")
    assert pipeline(module).modified


def test_a_pass_given_as_an_object_is_switched_off_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEADKV_DISABLE", "mine")
    result = PassPipeline([Note("mine"), PrunePrefixCache(policy="liveness")])(decode_graph())
    assert [run.disabled for run in result.runs] == [True, False] and result.modified
