"""Two pytest plugins: one learns which test runs which line, one runs the tests of each mutant in a forked process."""

from __future__ import annotations

import gc
import os
import resource
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType

import pytest
from coverage import Coverage

from tests.mutation.mutants import Mutant

MEMORY = 16 * 2**30
"""Bytes of address space that a mutant may take."""
IMPORT = ""
"""Stands, among the tests that run a line, for the import of its module."""


class Baseline:
    """Plugin: the seconds that every test takes that passes, and the lines that it runs."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()
        self.coverage = Coverage(data_file=None, source=["passes"], config_file=False)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.coverage.switch_context(item.nodeid)
        started = time.monotonic()
        result = yield
        self.seconds[item.nodeid] = time.monotonic() - started
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.add(report.nodeid)

    def lines(self) -> dict[str, dict[int, list[str]]]:
        """For each file and line, the tests that run it, and IMPORT."""
        data, here = self.coverage.get_data(), Path.cwd()
        return {str(Path(name).relative_to(here)): data.contexts_by_lineno(name) for name in data.measured_files()}


@dataclass
class Choice:
    """Which tests a mutant has to survive: those that run its line, those first that killed most mutants before.

    Attributes:
        seconds: of each test.
        lines: for each file and line, the tests that run it.
        budget: seconds of tests for each mutant; the slowest are left out.
        kills: how many mutants each test has killed.
    """

    seconds: dict[str, float]
    lines: dict[str, dict[int, list[str]]]
    budget: float
    kills: Counter[str] = field(default_factory=Counter)

    def tests(self, mutant: Mutant) -> list[str] | None:
        """None if the line runs when its module is imported: that happens before the process is forked."""
        found = self._contexts(mutant)
        return None if IMPORT in found else self.within_budget(found)

    def within_budget(self, tests: Iterable[str]) -> list[str]:
        """Whole test files while the budget lasts, quick ones first; of the last its fastest tests."""
        known = self.seconds.keys() & tests
        total: dict[str, float] = defaultdict(float)
        for test in known:
            total[_file(test)] += self.seconds[test]
        chosen, left = [], self.budget
        for test in sorted(known, key=lambda test: (total[_file(test)], self.seconds[test], test)):
            left -= self.seconds[test]
            if left > 0 or not chosen:
                chosen.append(test)
        return sorted(chosen, key=lambda test: -self.kills[test])

    def _contexts(self, mutant: Mutant) -> list[str]:
        """Of the changed line, or of the one before it if it is a constant and so never runs by itself."""
        lines = self.lines.get(mutant.path, {})
        return next((lines[at] for at in range(mutant.line, 0, -1) if lines.get(at)), [])


def _file(test: str) -> str:
    return test.partition("::")[0]


@dataclass
class Mutation:
    """Plugin: runs `mutants` in forks of a session that has collected its tests."""

    choice: Choice
    mutants: list[Mutant]
    report: Callable[[Mutant, str], None]
    trusted: set[str] = field(default_factory=set)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        for mutant in self.mutants:
            tests = self.choice.tests(mutant)
            if tests is not None:
                self.report(mutant, self._checked_killer(mutant, [items[test] for test in tests if test in items]))
        return True

    def _checked_killer(self, mutant: Mutant, items: list[pytest.Item]) -> str:
        """As `_killer`, but for tests that fail in such a process without any mutation."""
        while (killer := self._killer(mutant, items)) in self.choice.seconds and killer not in self.trusted:
            at = [item.nodeid for item in items].index(killer)
            if not self._killer(None, items[at : at + 1]):
                self.trusted.add(killer)
                break
            print(f"left out, for it fails in a forked process: {killer}", flush=True)
            del self.choice.seconds[killer]
            items = items[at + 1 :]
        return killer

    def _killer(self, mutant: Mutant | None, items: list[pytest.Item]) -> str:
        """The first of `items` that fails, or "" if none does."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            _restrict()
            if mutant is not None:
                patch_functions(mutant)
            os._exit(self._run(items, writing))
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            killer = pipe.read().decode()
        _, status = os.waitpid(child, 0)
        if killer and mutant is not None:
            self.choice.kills[killer] += 1
        return killer or ("a crash, or too much time or memory" if status else "")

    def _run(self, items: list[pytest.Item], writing: int) -> int:
        for item, following in zip(items, [*items[1:], None], strict=True):
            allowed = 2 + 5 * self.choice.seconds[item.nodeid]
            signal.setitimer(signal.ITIMER_PROF, allowed)  # of processor time; then the process ends
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if item.session.testsfailed:
                return int(os.write(writing, item.nodeid.encode()) > 0)
        return 0


def _restrict() -> None:
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)


def patch_functions(mutant: Mutant) -> None:
    """Gives each loaded function of the mutant's file its changed code."""
    path = str(Path(mutant.path).resolve())
    old, new = (compile(source, path, "exec") for source in (Path(path).read_text(), mutant.source))
    changed = [(one, other) for one, other in _pairs(old, new) if one != other]
    gc.unfreeze()  # the tests freeze what they start with, and what is frozen is not listed
    for function in gc.get_objects():
        if type(function) is FunctionType and function.__code__.co_filename == path:
            function.__code__ = next((other for one, other in changed if function.__code__ == one), function.__code__)


def _pairs(old: CodeType, new: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    yield old, new
    bodies = ([const for const in code.co_consts if isinstance(const, CodeType)] for code in (old, new))
    for one, other in zip(*bodies, strict=True):
        yield from _pairs(one, other)
