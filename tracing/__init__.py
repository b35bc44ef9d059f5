"""Capture a model, run the passes on its graph, and hand the result to a compiler."""
