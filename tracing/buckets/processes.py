"""Where worker processes come from: a server that has imported what they all need, and forks them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import forkserver, get_all_start_methods, get_context
from multiprocessing.context import ForkServerContext, SpawnContext

_PRELOADED = "tracing.buckets.preload"


def worker_context() -> ForkServerContext | SpawnContext:
    """A context whose processes start with everything imported, in the same pages of memory for all of them.

    They are forked off multiprocessing's fork server, which has one thread, has run no code but imports, and ends with
    this process. Where there is none, or none that can be kept from importing what lies in the current folder (Python
    3.10), each process is spawned and imports for itself.
    """
    if "forkserver" not in get_all_start_methods() or not hasattr(sys.flags, "safe_path"):
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([_PRELOADED])
    with _imports_found_as_here():
        forkserver.ensure_running()
    return context


def adopt_environment(environment: Mapping[str, str]) -> None:
    """Makes `environment` that of this process, in place of what it has from the server."""
    os.environ.clear()
    os.environ.update(environment)


@contextmanager
def _imports_found_as_here() -> Iterator[None]:
    """A Python started in the block has the `sys.path` of this one first.

    Before Python 3.13 the server does not take it over, and would look into the current folder before anything else.
    """
    found = dict(os.environ)
    os.environ.update(PYTHONSAFEPATH="1", PYTHONPATH=os.pathsep.join(map(os.path.abspath, sys.path)))
    try:
        yield
    finally:
        adopt_environment(found)
