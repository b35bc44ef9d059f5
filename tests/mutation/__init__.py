"""Mutation testing of `passes`: `make mutation`, explained in docs/mutation.md."""
