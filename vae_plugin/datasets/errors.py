"""The error of data that cannot be used."""

from __future__ import annotations

from ..errors import UserError


class DataError(UserError):
    """Data that cannot be used; the message says what was found and what to give.

    Attributes:
        reason: why an image cannot be used, without its name; empty for other errors.
    """

    reason: str = ""
