"""The labels that go with images: classes as integers, captions as text."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from .errors import DataError
from .files import SPLITS
from .images import ImageDataset
from .rows import value_of
from .tars import Member, read_archive
from .webdataset import is_reference, member_of, open_shard, shard_of

if TYPE_CHECKING:
    import datasets

Label = int | str | None
USUAL_COLUMNS = ("label", "labels", "fine_label", "cls", "class", "caption", "text", "prompt", "txt")
USUAL_MEMBERS = ("cls", "txt")  # of a WebDataset sample
PROBED = 100  # samples that are looked at for the kind of their labels
LARGEST = 1 << 24  # bytes of a label


class Labels(Protocol):
    """The labels of the images of a data set.

    Attributes:
        column: where they come from, for whoever reads the result; None if there are none.
        classes: the names of the classes, by their integers; None of captions, and where they have no names.
        integers: whether they are integers rather than captions.
    """

    column: str | None
    classes: list[str] | None
    integers: bool

    def of(self, row: int) -> Label:
        """The label of a row; None if it has none."""


class NoLabels:
    """Images without labels."""

    column: str | None = None
    classes: list[str] | None = None
    integers = True

    def of(self, row: int) -> Label:
        """None."""
        return None


class FolderLabels:
    """The classes of images in sub-folders, numbered in alphabetical order as torchvision's `ImageFolder` does.

    Args:
        names: of the images, relative to the folder of the data. A first folder that is a split is no class.
    """

    column: str | None = "folder"
    classes: list[str] | None
    integers = True

    def __init__(self, names: list[str]) -> None:
        found = [_class_of(name) for name in names]
        self.classes = sorted({name for name in found if name is not None})
        numbers = {name: number for number, name in enumerate(self.classes)}
        self._labels = [None if name is None else numbers[name] for name in found]

    def of(self, row: int) -> Label:
        """See `Labels`."""
        return self._labels[row]


class ColumnLabels:
    """A column of a table.

    Args:
        table: of the data set, with all its columns.
        column: of integers or of text; of a list of captions the first is taken.
    """

    classes: list[str] | None

    def __init__(self, table: datasets.Dataset, column: str) -> None:
        import datasets

        feature = table.features[column]
        self.column: str | None = column
        self.classes = list(feature.names) if isinstance(feature, datasets.ClassLabel) else None
        self._table = table.select_columns([column])
        feature = feature.feature if isinstance(feature, datasets.List) else feature
        dtype = str(getattr(feature, "dtype", ""))
        self.integers = dtype.startswith(("int", "uint", "bool"))
        if not self.integers and dtype not in ("string", "large_string"):
            raise DataError(f"the column {column!r} holds {feature}: --label_column takes integers or text.")

    def of(self, row: int) -> Label:
        """See `Labels`."""
        value = self._table[row][self.column]
        value = value[0] if isinstance(value, list) and value else value
        if value is None or value == []:
            return None
        return int(value) if self.integers else str(value)


class MemberLabels:
    """The members of a WebDataset sample beside its image: .cls is an integer, .txt a caption, .json has either.

    Args:
        images: whose rows are references to members of archives.
        column: "cls" or "txt", or a key of the .json.
    """

    classes: list[str] | None = None

    def __init__(self, images: ImageDataset, column: str) -> None:
        self._images, self._column = images, column
        self.column: str | None = column
        first = next((label for label in map(self.of, range(PROBED)) if label is not None), None)
        self.found, self.integers = first is not None, not isinstance(first, str)

    def of(self, row: int) -> Label:
        """See `Labels`.

        Raises:
            DataError: if it is not what its ending says.
        """
        if row >= len(self._images.table):
            return None
        reference = value_of(self._images.table[row][self._images.image_column])["path"]
        shard, member = shard_of(reference), member_of(reference)
        members = _members_of(shard).get(_sample_of(member), {})
        if self._column in USUAL_MEMBERS:
            return _read(shard, members[self._column], self._column) if self._column in members else None
        if "json" not in members:
            return None
        value = _json(_bytes(shard, members["json"]), member).get(self._column)
        if value is None or (isinstance(value, (int, str)) and not isinstance(value, bool)):
            return value
        raise DataError(f"{self._column!r} in the .json of {member} is neither an integer nor text.")


def find_labels(images: ImageDataset, column: str | None = None) -> Labels:
    """The labels of a data set.

    Args:
        images: the data set.
        column: a column of the table, an ending or a JSON key of a WebDataset. By default the only column of classes,
            or one of a usual name; of a folder the names of its sub-folders.

    Raises:
        DataError: if there is no such column.
    """
    import datasets

    table, own = images.source, images.image_column
    if is_reference(value_of(images.table[0][own]).get("path")):
        return _member_labels(images, column)
    if images.origin.names is not None:
        if column is not None:
            raise DataError(
                f"label_column is {column!r}, and {images.origin.location} holds image files: leave it out, and the "
                "names of their folders are the labels."
            )
        labels = FolderLabels(list(images.origin.names))
        return labels if labels.classes else NoLabels()
    others = [name for name in table.features if name != own]
    if column is not None:
        if column not in others:
            raise DataError(
                f"label_column is {column!r}, but {images.origin.location} has {', '.join(others) or 'none'} beside "
                "the images: give one of these."
            )
        return ColumnLabels(table, column)
    classes = [name for name in others if isinstance(table.features[name], datasets.ClassLabel)]
    for name in classes if len(classes) == 1 else [name for name in USUAL_COLUMNS if name in others]:
        with suppress(DataError):
            return ColumnLabels(table, name)
    return NoLabels()


def _member_labels(images: ImageDataset, column: str | None) -> Labels:
    for candidate in (column,) if column is not None else USUAL_MEMBERS:
        labels = MemberLabels(images, candidate)
        if labels.found:
            return labels
    if column is None:
        return NoLabels()
    raise DataError(
        f"the first samples in {images.origin.location} have no label {column!r}: give cls or txt, the ending of a "
        "member beside the images, or a key of their .json."
    )


def _class_of(name: str) -> str | None:
    folders = name.split("/")[:-1]
    if folders and SPLITS.get(folders[0].lower()):
        folders = folders[1:]
    return folders[0] if folders else None


@lru_cache(maxsize=4)
def _members_of(shard: str) -> dict[str, dict[str, Member]]:
    """Sample -> ending -> member, of the labels in an archive."""
    found: dict[str, dict[str, Member]] = {}
    with open_shard(shard) as file:
        for member in read_archive(file):
            if not isinstance(member, Member):
                continue
            ending = member.name.rpartition("/")[2].partition(".")[2].lower()
            if ending in (*USUAL_MEMBERS, "json") and member.size <= LARGEST:
                found.setdefault(_sample_of(member.name), {})[ending] = member
    return found


def _sample_of(member: str) -> str:
    folder, _, name = member.rpartition("/")
    return f"{folder}/{name.partition('.')[0]}"


def _bytes(shard: str, member: Member) -> bytes:
    with open_shard(shard) as file:
        file.seek(member.offset)
        return file.read(member.size)


def _read(shard: str, member: Member, ending: str) -> Label:
    text = _bytes(shard, member).decode("utf-8", "replace").strip()
    if ending != "cls":
        return text
    try:
        return int(text)
    except ValueError:
        raise DataError(f"{member.name} in {shard} holds {text[:40]!r}, and a .cls holds an integer.") from None


def _json(content: bytes, member: str) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        raise DataError(f"the .json of {member} is damaged: give data with a readable one.") from None
    return found if isinstance(found, dict) else {}
