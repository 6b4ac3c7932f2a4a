"""Shards that a stream reads one after the other, each from its beginning."""

from __future__ import annotations

import logging
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import fsspec
import pyarrow as pa

from .errors import DataError
from .members import Origin, member_name, row_name
from .paths import regular_file
from .rows import array_type, undecoded, value_of
from .rules import DataRules
from .tars import Damage
from .webdataset import Selection, read_shard

if TYPE_CHECKING:
    import datasets

# What a damaged file causes, rather than a connection that was lost: pyarrow's own errors are plain OSErrors too.
OF_CONTENT = (pa.ArrowException, tarfile.TarError, EOFError, zlib.error, UnicodeDecodeError)

Sample = tuple[str, dict[str, Any]]  # the name of a sample, and the value of its row: "bytes" and "path"


class Shards(Protocol):
    """Files that hold samples."""

    names: Sequence[str]

    def samples(self, shard: int, skip: int) -> Iterator[Sample | Damage]:
        """The samples of a shard in order behind the first `skip`, and what is damaged between them."""


class TableShards:
    """The shards of a streaming table of the `datasets` library.

    Args:
        table: whose files are its shards.
        image_column: of the images.
        names: of the files; they are numbered otherwise.
        rows: number of a file -> its number of rows, or None.
    """

    def __init__(
        self,
        table: datasets.IterableDataset,
        image_column: str,
        names: Sequence[str] = (),
        rows: Callable[[int], int | None] | None = None,
    ) -> None:
        self._table, self._column, self._rows = undecoded(table, image_column), image_column, rows
        self._dtype = array_type(table.features[image_column])
        logging.getLogger("datasets.packaged_modules.parquet.parquet").disabled = True  # `Damage` says it, once
        count = self._table.num_shards
        self._local = len(names) == count
        self.names = names if self._local else [f"shard {i}" for i in range(count)]

    def samples(self, shard: int, skip: int) -> Iterator[Sample | Damage]:
        """See `Shards`.

        Raises:
            DataError: if the connection was lost.
        """
        name, number = self.names[shard], skip
        table = self._table.shard(num_shards=len(self.names), index=shard)
        try:
            for row in table.skip(skip) if skip else table:
                value = value_of(row[self._column], self._dtype)
                in_archive = name.lower().endswith(".tar") and value.get("path")
                yield member_name(name, value["path"]) if in_archive else row_name(name, number), value
                number += 1
        except Exception as error:
            reason = " ".join(str(error.__cause__ or error).split()).rstrip(".") or type(error).__name__
            if not self._local and not isinstance(error, OF_CONTENT) and type(error) is not OSError:
                raise DataError(f"{name} cannot be read: {reason}.") from error
            rows = self._rows(shard) if self._rows is not None else None
            if rows == 0:  # which `datasets` cannot read
                return
            yield Damage(f"it cannot be read behind {number} images ({reason})", max(1, (rows or 0) - number))


class TarShards:
    """The tar files of a WebDataset.

    Args:
        files: paths, or addresses that fsspec opens.
        names: of the files.
        image_column: see `Selection`.
        rules: by which files become images.
    """

    def __init__(self, files: Sequence[Path | str], names: Sequence[str], image_column: str | None, rules: DataRules):
        self.files, self.names, self._image_column, self._rules = files, names, image_column, rules

    def samples(self, shard: int, skip: int) -> Iterator[Sample | Damage]:
        """See `Shards`.

        Raises:
            DataError: if a sample has several images, or the connection was lost.
        """
        selection = Selection(self._image_column, self._rules)
        file = self.files[shard]
        try:
            with _opened(file) as archive:
                for found in read_shard(archive, file, selection):
                    if isinstance(found, Damage):
                        yield found
                    elif skip > 0:
                        skip -= 1
                    else:
                        archive.seek(found.offset)
                        value = {"bytes": archive.read(found.size), "path": found.name}
                        yield member_name(self.names[shard], found.name), value
        except tarfile.TarError as error:
            yield Damage(f"it cannot be read as an uncompressed tar file ({error})")
        except OSError as error:
            reason = error.strerror or " ".join(str(error).split())
            if not isinstance(file, Path):
                raise DataError(f"{file} cannot be read: {reason.rstrip('.')}.") from error
            yield Damage(f"it cannot be read ({reason})")

    def check(self) -> None:
        """Look for the first image.

        Raises:
            DataError: if there is none, or a sample before it has several.
        """
        selection = Selection(self._image_column, self._rules)
        damaged = []
        for file in self.files:
            try:
                with _opened(file) as archive:
                    for found in read_shard(archive, file, selection):
                        if not isinstance(found, Damage):
                            return
            except (tarfile.TarError, OSError) as error:
                damaged.append(f"{file} cannot be read as an uncompressed tar file: {error}.")
        if damaged:
            raise DataError(damaged[0])
        selection.check_found(Path(str(self.files[0])).parent)


@contextmanager
def _opened(file: Path | str) -> Iterator[IO[bytes]]:
    with open(regular_file(file), "rb") if isinstance(file, Path) else fsspec.open(file, "rb") as opened:
        yield opened


@dataclass
class Streamed:
    """Shards of encoded images.

    Attributes:
        shards: to stream.
        origin: of them.
        roots: see `Places`.
    """

    shards: Shards
    origin: Origin
    roots: tuple[str, ...] | None = None
