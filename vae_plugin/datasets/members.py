"""Which samples a data set has: their names, the digest of the whole, and which were held out of training."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .errors import DataError
from .rules import LATEST, DataRules

FROM_PYTHON = "python:"  # begins the digest of a data set that was given from there
HELD_OUT_STAYS = "what was held out stays held out, and what is new is only trained on"


@dataclass(frozen=True)
class Origin:
    """Where the samples of a data set come from.

    Attributes:
        digest: SHA-256 over the relative names and sizes of the files, or of the fingerprint of a data set on the Hub:
            equal if nothing was added, removed, renamed or changed in size, wherever the folder is.
        location: the path or id that was given.
        revision: commit of a data set on the Hub.
        sources: name and number of rows of each file of rows, in order; None for a number that is not known.
        names: of the samples, in order; without it a sample is a row of a source.
        ignored_files: files beside these that are of another kind.
        damaged: number of archives of which a part cannot be read.
    """

    digest: str | None = None
    location: str = "the data"
    revision: str | None = None
    sources: tuple[tuple[str, int | None], ...] = ()
    names: Sequence[str] | None = None
    ignored_files: tuple[str, ...] = ()
    damaged: int = 0

    def sample_names(self) -> Iterator[str]:
        """The name of every row in order: that of its file, of a member of an archive, or of a file and a row."""
        if self.names is not None:
            yield from self.names
        else:
            for source, length in self.sources:
                yield from (row_name(source, row) for row in range(length or 0))

    def name_of(self, row: int) -> str:
        """The name of one row; a row of a source without a known number of rows has its number alone."""
        if self.names is not None:
            return self.names[row]
        for source, length in self.sources:
            if row < (length or 0):
                return row_name(source, row)
            row -= length or 0
        return row_name(self.location, row)


@dataclass(frozen=True)
class DataRecord:
    """What a run remembers of its data, and a checkpoint holds.

    Attributes:
        rules: of the data.
        digest: of the data, see `Origin`; None of circles, and in checkpoints of release 0.1.
        revision: commit of a data set on the Hub.
        images: how many there were, those held out included; None of a stream.
        held_out: name -> SHA-256 of the encoded image, of the samples that are measured and not trained on. None in
            checkpoints of release 0.1, which held out by the seed.
        validation: digest of the validation set that these are of, if it is not of the data themselves.
        global_batch: images of a batch over all processes, where batches are made of images of one size; None
            otherwise.
    """

    rules: DataRules = field(default_factory=DataRules)
    digest: str | None = None
    revision: str | None = None
    images: int | None = None
    held_out: Mapping[str, str] | None = None
    validation: str | None = None
    global_batch: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """In the types of JSON."""
        return {**asdict(self), "rules": self.rules.version}

    @classmethod
    def read(cls, content: Mapping[str, Any], where: object) -> DataRecord:
        """From `to_dict`, or from less: a checkpoint of release 0.1 has none of it.

        Args:
            content: to read.
            where: it stands, for the error.

        Raises:
            DataError: if it is not of these types, or of rules that this version does not know.
        """
        version = content.get("rules", 1)
        if version not in range(1, LATEST.version + 1):
            raise DataError(
                f"{where} was written under version {version!r} of the data's rules, and this vae-plugin knows 1 to "
                f"{LATEST.version}: continue with the version that wrote it, or a later one."
            )
        names = ("digest", "revision", "images", "held_out", "validation", "global_batch")
        values = {name: content.get(name) for name in names}
        held_out = values["held_out"]
        texts = [values["digest"], values["revision"], values["validation"]]
        texts += held_out.values() if isinstance(held_out, dict) else []
        if (
            not all(text is None or isinstance(text, str) for text in texts)
            or not isinstance(held_out, dict | None)
            or any(values[name] is not None and type(values[name]) is not int for name in ("images", "global_batch"))
        ):
            raise DataError(f"what {where} says of the data is damaged: give one that was not edited.")
        return cls(DataRules(version), **values)

    @property
    def of_python(self) -> bool:
        """Whether the data set was given from Python."""
        return self.digest is not None and self.digest.startswith(FROM_PYTHON)

    @property
    def is_new(self) -> bool:
        """Whether it is of a run that begins."""
        return self.digest is None and self.rules == LATEST

    def check(
        self, same: bool, location: str, images: int | None, allow_changed: bool, promise: str = HELD_OUT_STAYS
    ) -> bool:
        """Whether the data changed since.

        Args:
            same: whether the digest, and the held-out images, are those of this record.
            location: of the data.
            images: how many there are now.
            allow_changed: whether they may have changed.
            promise: what happens then, for the error.

        Raises:
            DataError: if they changed and may not.
        """
        if self.digest is None or same:
            return False
        if not allow_changed:
            counts = f" ({self.images:,} images then, {images:,} now)" if None not in (self.images, images) else ""
            raise DataError(
                f"the data in {location} are not those of the checkpoint{counts}: files were added, removed, renamed "
                f"or edited. Restore them, or give --allow_changed_data: {promise}."
            )
        return True


def from_python(digest: str) -> str:
    """The digest of a data set that was given from Python."""
    return FROM_PYTHON + digest


def row_name(source: str, row: object) -> str:
    """The name of a sample that is a row of a file."""
    return f"{source}#{row}"


def member_name(source: str, member: str) -> str:
    """The name of a sample that is a member of an archive."""
    return f"{source}::{member}"


def digest_of(words: Iterable[object]) -> str:
    """SHA-256 over words, in order."""
    digest = hashlib.sha256()
    for word in words:
        digest.update(os.fsencode(str(word)) + b"\0")
    return digest.hexdigest()


def find_held_out(
    names: Iterable[str], content: Callable[[int], str], held_out: Mapping[str, str], same_files: bool
) -> list[int]:
    """The rows that hold what was held out.

    A sample is known by its name where that names the same image as before. In data that changed, rows may have moved
    and files may have been renumbered: an image is then known by its content wherever it is, and one that is nowhere
    by its name, as a file that was edited.

    Args:
        names: of all rows, in order.
        content: row -> SHA-256 of its encoded image.
        held_out: name -> SHA-256 of the encoded image.
        same_files: whether the data did not change.
    """
    names = list(names)
    named = {name: row for row, name in enumerate(names) if name in held_out}
    if same_files:
        return sorted(named.values())
    rows = {row for name, row in named.items() if content(row) == held_out[name]}
    lost = {name: wanted for name, wanted in held_out.items() if named.get(name) not in rows}
    if lost:
        wanted = {content for content in lost.values() if content}
        moved = {row for row in range(len(names)) if row not in rows and content(row) in wanted}
        rows |= moved or {named[name] for name in lost if name in named}
    return sorted(rows)


UNKNOWN_ORIGIN = Origin()
