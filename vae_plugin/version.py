"""The version of the installed package."""

from importlib.metadata import version

from .distribution import NAME

__version__ = version(NAME)
