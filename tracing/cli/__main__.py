"""`python -m tracing.cli`."""

from tracing.cli.app import main

main()
