"""The versions of the installed package, and of the libraries that its numbers depend on."""

from importlib.metadata import PackageNotFoundError, version

from .distribution import NAME

__version__ = version(NAME)
LIBRARIES = (NAME, "torch", "diffusers", "accelerate")


def library_versions() -> dict[str, str]:
    """Version by name, of those libraries that are installed."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
