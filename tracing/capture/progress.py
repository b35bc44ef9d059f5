"""A spinner for the stages of a long job, on a terminal only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console


@contextmanager
def spinner(title: str, console: Console | None = None) -> Iterator[Callable[[str], None]]:
    """A callable that shows the stage it is given; it does nothing where stderr is no terminal."""
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield lambda stage: None
        return
    with console.status(title) as status:
        yield lambda stage: status.update(f"{title}: {stage}")
