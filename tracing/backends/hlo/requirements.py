"""The packages that the HLO backend needs."""

from __future__ import annotations

from passes.errors import DeadkvError
from tracing.backends.packages import installed

INSTALL_HINT = "pip install 'deadkv[hlo]'"
_PACKAGES = ("jax", "google.protobuf")


def missing_package() -> str | None:
    """The first package that is not installed, or None."""
    return next((package for package in _PACKAGES if not installed(package)), None)


def require_packages() -> None:
    """Raises DeadkvError, with the install line, if a package is missing."""
    missing = missing_package()
    if missing is not None:
        raise DeadkvError(f"backend 'hlo' needs {missing}, which is not installed: {INSTALL_HINT}")
