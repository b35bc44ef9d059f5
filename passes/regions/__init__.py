"""Calls of nested graphs: how they bind, what they do, how a call and its graphs change together."""
