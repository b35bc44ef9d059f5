"""Templates of pages: data is escaped for HTML and for control characters, and a name that is not given is an error."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from tracing.graph.escape import one_line


def page_environment(package: str) -> Environment:
    """A jinja2 environment for the folder `templates` of `package`."""
    return Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda found: one_line(found) if type(found) is str else found,
    )
