"""The command line: `deadkv compile | diff | explain | verify | passes`."""

from tracing.cli.app import main

__all__ = ["main"]
