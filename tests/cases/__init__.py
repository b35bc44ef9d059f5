"""The case table: small functions around one pool and one block table, each with a twin that must stay.

Each takes `x [3, 2, 16, 8]`, the pool `[10, 4, 2, 8]` (blocks, block size, heads, head dim) and the block table
`[3, 4]`.
"""

from tests.cases import (
    controls,
    duplicates,
    elements,
    flat,
    kernels,
    loops,
    loops_built,
    nested,
    nested_built,
    nki_kernels,
    shapes,
    stores,
)
from tests.cases.case import CASES, Case

__all__ = [
    "CASES",
    "Case",
    "controls",
    "duplicates",
    "elements",
    "flat",
    "kernels",
    "loops",
    "loops_built",
    "nested",
    "nested_built",
    "nki_kernels",
    "shapes",
    "stores",
]
