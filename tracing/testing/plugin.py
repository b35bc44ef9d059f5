"""The pytest plugin: `pytest_plugins = ["tracing.testing.plugin"]` in the outermost conftest.py turns it on.

It is no entry point that pytest loads by itself: every run in the environment would wait for torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from torch.fx import GraphModule

from tracing.graph import GraphDoc
from tracing.testing.golden import UPDATE_FLAG, check_golden

Golden = Callable[..., None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the flag that rewrites golden files."""
    parser.getgroup("deadkv").addoption(UPDATE_FLAG, action="store_true", help="write golden graphs anew")


@pytest.fixture
def deadkv_golden(request: pytest.FixtureRequest) -> Golden:
    """Compares a graph with `goldens/TEST.txt` beside the test, `goldens/TEST.NAME.txt` if a name is given."""
    folder = request.path.parent / "goldens"
    update = bool(request.config.getoption(UPDATE_FLAG))

    def golden(graph: GraphModule | GraphDoc, name: str = "") -> None:
        stem = re.sub(r"[^\w.\[\]-]", "_", ".".join(filter(None, (request.node.name, name))))
        check_golden(graph, folder / f"{stem}.txt", update=update)

    return golden
