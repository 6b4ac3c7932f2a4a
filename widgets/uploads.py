"""Files that the front end sends in pieces: a notebook's connection breaks at a message of more than 10 MB."""

from __future__ import annotations

from vae_plugin.errors import UserError

MAX_UPLOAD = 100 * 2**20  # bytes of a file
PIECE = 4 * 2**20  # bytes of a piece


class Uploads:
    """The file that is being received; another that begins takes its place, so that one is kept at most."""

    def __init__(self) -> None:
        self._name: object = None
        self._data = bytearray()

    def add(self, name: object, at: int, piece: bytes) -> None:
        """Keep a piece.

        Args:
            name: identifies the file among those that are sent.
            at: number of the bytes before it.
            piece: the bytes.

        Raises:
            UserError: if a piece before it is missing, or the file is too large; nothing of it is kept then.
        """
        if at == 0:
            self._name, self._data = name, bytearray()
        if name != self._name or at != len(self._data):
            self._forget()
            raise UserError("a piece of the file was lost on its way: open the file again.")
        if at + len(piece) > MAX_UPLOAD:
            self._forget()
            raise UserError(f"a file of more than {MAX_UPLOAD // 2**20} MB was given: open it by its path.")
        self._data += piece

    def finish(self, name: object, at: int, piece: bytes) -> bytes:
        """The whole file, with its last piece; see `add`."""
        self.add(name, at, piece)
        data = bytes(self._data)
        self._forget()
        return data

    def _forget(self) -> None:
        self._name, self._data = None, bytearray()
