"""Graphs that are pruned by hand, rightly and wrongly, so that the verifier is tested without the pass."""
