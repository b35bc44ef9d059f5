"""Every lowering held against torch: calls that torch's own samples make, and the same calls on edge values.

`python -m tests.hlo_oracle` runs all of them and prints the counts; `tests/test_hlo_opinfo.py` runs a few of each.
"""
