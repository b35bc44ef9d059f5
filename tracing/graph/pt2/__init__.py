"""Graphs out of the `.pt2` archives that `torch.export.save` writes, read as data.

`torch.export.load` unpickles sample inputs, constants and some weights, hands the text of symbolic sizes to
`sympy.sympify`, which evaluates it, and loads compiled code. Nothing of that is needed to look at a graph: it is JSON
(torch/_export/serde/schema.py), and only that is read.
"""

from tracing.graph.pt2.archive import is_archive
from tracing.graph.pt2.reader import load_archive

__all__ = ["is_archive", "load_archive"]
