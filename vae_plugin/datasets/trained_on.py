"""Whether a model was trained on the images that it is measured on, and which of them its run held out."""

from __future__ import annotations

from pathlib import Path

from ..files import write_json
from ..texts import read_json_object
from .images import ImageDataset
from .members import DataRecord

DATA_FILE = "data.json"  # beside the weights; it names files, and is not published
PARTS = ("best", "lora")  # folders of a run's output that hold weights too


def save_record(record: DataRecord, folder: Path) -> None:
    """Write what a run remembers of its data beside its result; nothing for data that have no files."""
    if record.digest is not None:
        write_json(folder / DATA_FILE, record.to_dict())
    else:
        (folder / DATA_FILE).unlink(missing_ok=True)


def find_record(model: str | Path) -> DataRecord | None:
    """What the run that made a model remembers of its data.

    Args:
        model: its folder or file; anything else, such as an id on the Hub, has no record.

    Raises:
        UserError: if the record is damaged.
    """
    folder = Path(model)
    folder = folder.parent if folder.is_file() else folder
    for place in (folder, *([folder.resolve().parent] if folder.resolve().name in PARTS else [])):
        if (place / DATA_FILE).is_file():
            return DataRecord.read(read_json_object(place / DATA_FILE), place / DATA_FILE)
    return None


def held_out_of(images: ImageDataset, record: DataRecord) -> tuple[ImageDataset, str] | None:
    """The images that a run held out, where it was trained on others of the same data.

    Args:
        images: to measure on.
        record: of the run.

    Returns:
        What is to be measured, and a sentence that says why no others, or that it was trained on these; None if
        the run has to do with none of `images`, or was measured on images of this very set.
    """
    if record.validation is not None and images.origin.digest == record.validation:
        return None
    then = record.held_out or {}
    contents = set(then.values())
    left = {name for name, content in images.contents_elsewhere(then).items() if content in contents}
    if not left:
        if record.validation is None or images.origin.digest != record.digest:
            return None
        return images, f"the model was trained on the images in {images.origin.location}, which are measured here."
    if record.validation is not None and images.origin.digest != record.digest:
        reason = f"{images.origin.location} has images that the run of the model was measured on, and others"
    elif images.origin.digest == record.digest:
        reason = f"the model was trained on the images in {images.origin.location}"
    elif not left <= then.keys():
        reason = f"the model was trained on some of the images in {images.origin.location}"
    else:
        reason = f"the model was trained on images in {images.origin.location}, which have changed since"
    return images.only(left), f"{reason}: only those that its run held out are measured, {len(left)} of {len(images)}."
