"""Reading tar archives to their end, whatever is damaged on the way."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import IO

BLOCK = tarfile.BLOCKSIZE
MAGIC = slice(257, 262)  # of a header: "ustar"


@dataclass(frozen=True)
class Member:
    """A file in an archive.

    Attributes:
        name: with its folders.
        offset: of its content, in bytes.
        size: of its content, in bytes.
    """

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class Damage:
    """A place from which on a part of a shard is lost.

    Attributes:
        reason: what is wrong there.
        lost: number of samples that were lost, as far as that is known.
    """

    reason: str
    lost: int = 1


def read_archive(file: IO[bytes]) -> Iterator[Member | Damage]:
    """The regular files of an uncompressed tar archive, in order, and what is damaged between them.

    `tarfile` takes the first header that it does not understand for the end, without a word. Here the archive is read
    on from the next header after it, and the end is the end of the file. Archives written one behind the other are read
    as one. The position in the file may be changed meanwhile.

    Raises:
        tarfile.TarError: if it is not an archive at all.
    """
    size = file.seek(0, io.SEEK_END)
    start: int | None = 0
    while start is not None:
        stop = yield from _run(file, start, size)
        if stop is None:  # cut within a member
            return
        if stop >= size > 0:
            yield Damage(f"it ends at byte {size} without the mark of an archive's end, as if it had been cut")
            return
        block = _block(file, stop)
        if start == stop == 0 and (len(block) < BLOCK or (any(block) and block[MAGIC] != b"ustar")):
            raise tarfile.ReadError("it is compressed, or no archive" if block else "it is empty")
        if len(block) < BLOCK:
            yield Damage(_cut(size))
        elif any(block):
            yield Damage(f"the header at byte {stop} is damaged")
        start = _next_header(file, stop + BLOCK)


def _run(file: IO[bytes], start: int, size: int) -> Generator[Member | Damage, None, int | None]:
    """The files from a header on; returns where they end, or None if the archive is cut within one."""
    stop = start
    file.seek(start)
    try:
        archive = tarfile.TarFile(fileobj=file, mode="r", encoding="utf-8", errors="backslashreplace")
        while (info := archive.next()) is not None:
            if info.size < 0 or archive.offset <= stop:  # which a header may claim, and would never end
                return stop
            if info.offset_data + (info.size if info.isreg() else 0) > size:
                yield Damage(_cut(size))
                return None
            if info.isreg():
                yield Member(info.name, info.offset_data, info.size)
            archive.members.clear()  # type: ignore[attr-defined]  # which it would keep
            stop = archive.offset
    except OSError:
        raise
    except Exception:  # on damaged headers tarfile raises almost any exception
        return stop
    return stop


def _block(file: IO[bytes], offset: int) -> bytes:
    file.seek(offset)
    return file.read(BLOCK)


def _next_header(file: IO[bytes], offset: int) -> int | None:
    """Offset of the next block that is a header by its checksum; None if there is none."""
    file.seek(offset)
    while chunk := file.read(BLOCK << 11):
        for at in range(0, len(chunk) - BLOCK + 1, BLOCK):
            block = chunk[at : at + BLOCK]
            if block[MAGIC] == b"ustar" and _is_header(block):
                return offset + at
        offset += len(chunk)
    return None


def _is_header(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "backslashreplace")
    except (tarfile.TarError, ValueError):
        return False
    return True


def _cut(offset: int) -> str:
    return f"it is cut at byte {offset}"
