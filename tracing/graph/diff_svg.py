"""A diff drawn by Graphviz."""

from __future__ import annotations

import shutil
import subprocess

from passes.errors import DeadkvError
from tracing.graph.diff import GraphDiff
from tracing.graph.diff_dot import render_dot

TIME_LIMIT_S = 120


def render_svg(diff: GraphDiff, time_limit_s: float = TIME_LIMIT_S) -> str:
    """The changed nodes and their neighbours as SVG, of equal chains one. The layout is that of the installed Graphviz.

    Raises:
        DeadkvError: there is no `dot` program, it fails, or it takes longer than `time_limit_s` seconds.
    """
    program = shutil.which("dot")
    if program is None:
        raise DeadkvError(
            "--svg needs the dot program of Graphviz: install the package graphviz (apt install graphviz, "
            "brew install graphviz), or write --dot and draw it elsewhere"
        )
    return _run(program, render_dot(diff, folded=True), time_limit_s)


def _run(program: str, source: str, time_limit_s: float) -> str:
    try:
        done = subprocess.run(
            [program, "-Tsvg"], input=source, capture_output=True, encoding="utf-8", timeout=time_limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise DeadkvError(
            f"{program} did not draw the diff in {time_limit_s:g} s: --html shows one of any size"
        ) from None
    except (OSError, UnicodeError) as error:
        raise DeadkvError(f"cannot run {program}: {error}") from error
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise DeadkvError(f"{program} failed with code {done.returncode}: {said[-1] if said else 'it says nothing'}")
    return done.stdout
