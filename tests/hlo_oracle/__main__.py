"""`python -m tests.hlo_oracle [MOST]`: up to MOST calls of each lowered overload and dtype (default 200)."""

from __future__ import annotations

import sys

from tests.hlo_oracle.compare import Outcome, compare
from tests.hlo_oracle.edges import edge_calls
from tests.hlo_oracle.samples import DTYPES, recorded_calls
from tracing.backends.hlo.ops import LOWERINGS


def main(most: int) -> int:
    """Prints the counts by dtype, then what is wrong. Returns the exit code."""
    total = Outcome()
    for dtype in DTYPES:
        calls = recorded_calls(dtype, most)
        for what, chosen in (("samples", calls), ("edges", list(edge_calls(calls)))):
            found = compare(chosen)
            print(f"{dtype} {what}: {found.equal} equal, {found.refused} refused, {len(found.wrong)} wrong", flush=True)
            total.add(found)
    unseen = sorted(str(op) for op in LOWERINGS.keys() - total.overloads)
    print(f"{total.equal} equal, {total.refused} refused, {len(total.wrong)} wrong")
    print(f"{len(total.overloads)} of {len(LOWERINGS)} overloads; not called by any sample: {', '.join(unseen)}")
    print("\n".join(total.wrong))
    return int(bool(total.wrong))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
