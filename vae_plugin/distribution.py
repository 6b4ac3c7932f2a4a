"""Where this package comes from: the name and the addresses in pyproject.toml, as the installed metadata have them."""

from __future__ import annotations

from importlib.metadata import metadata

NAME = "vae-plugin"


def repository() -> str | None:
    """Address of the source repository, "Repository" of [project.urls]; None where none is set."""
    return _addresses().get("repository")


def install_command() -> str | None:
    """The command that installs the package: from its "Index" in [project.urls], or else from the repository.

    Returns:
        None where neither is set.
    """
    if "index" in _addresses():
        return f"pip install {NAME}"
    return None if repository() is None else f"pip install git+{repository()}"


def _addresses() -> dict[str, str]:
    """The addresses of [project.urls], by their names in lower case."""
    lines = metadata(NAME).get_all("Project-URL") or []
    return {name.strip().lower(): address.strip() for name, _, address in (line.partition(",") for line in lines)}
