"""How large a graph file may be: documented in docs/graph-format.md, and what bounds the memory that reading one takes.

The graph of a 126-layer decoder has about 10,000 nodes and takes 2.5 MB.
"""

from __future__ import annotations

MAX_BYTES = 32 * 2**20  # of a file
MAX_MEMBERS = 100_000  # of a .pt2 archive
MAX_VALUES = 2_000_000  # JSON values of a file, keys included
MAX_NODES = 50_000  # of a file, nested graphs included
MAX_PATH_PARTS = 100_000  # of the paths of all parameters, objects and subgraphs
MAX_SUBGRAPHS = 16  # graphs nested in graphs
MAX_DEPTH = 32  # of nested argument values and types
MAX_NAME = 1000  # characters of a name, target or path
MAX_STRING = 2**20  # characters of any other string
MAX_INTEGER = 2**128  # absolute value of an integer constant
MAX_RANK = 32
MAX_DIM = 2**62  # of a size or stride, and of the number of elements
MAX_SYMBOLS = 1000  # of a file
MAX_EXPRESSION = 500  # characters of a symbolic expression
MAX_TOKENS = 150  # names, numbers, operators and brackets of a symbolic expression
MAX_TERMS = 200  # of a symbolic expression, multiplied out
MAX_BITS = 4096  # of the largest number that a symbolic expression could become
MAX_SCHEMA = 10_000  # characters of an operator schema
MAX_SCHEMA_BRACKETS = 200  # of an operator schema
