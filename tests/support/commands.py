"""Runs the command line in the process of a test."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from tracing.cli import main

Run = Callable[..., int]


def run_deadkv(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Runs one command and returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["deadkv", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)
