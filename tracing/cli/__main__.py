"""`python -m tracing.cli`."""

from tracing.cli.app import main

if __name__ == "__main__":
    main()
