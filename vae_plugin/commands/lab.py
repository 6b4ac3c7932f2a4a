"""Write the lab of a model as a page: one HTML file, whose decoder runs in the browser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..autoencoders import Adapter
from ..errors import UserError
from ..hub.destination import CARD
from ..hub.push import write_card
from ..hub.record import FILE_NAME as RUN_FILE
from ..hub.record import RunRecord
from ..hub.space import address_of, check_space, push_page
from ..notices import say
from ..options import GIVEN, option, parse
from ..widgets import LatentLab
from .images import ImageSource
from .outputs import check_output_files

GENERATED = "generated circles"  # the data set of a run.json
PAGE = "lab.html"


@dataclass
class LabOptions(ImageSource):
    """Options of `vae-plugin lab`."""

    max_images: int = option(
        100,
        "Number of images of the lab at most, evenly spread; all of them are in the page.",
        at_most=10_000,
        at_least=2,
    )
    output: str | None = option(
        None, f"HTML file to write. By default {PAGE} beside the model, or here for one of the Hub.", path=True
    )
    onnxruntime_web: str | None = option(
        None,
        "Folder or tarball of this npm package, which runs the decoder in the page. By default it is fetched once from "
        "the npm registry, and kept.",
        path=True,
    )
    push_to_space: str | None = option(
        None, "Also publish the page on the Hub, images included, as the static Space of this name: user/name."
    )
    private: bool = option(False, "Make the Space private, if it does not exist yet.", when={"push_to_space": GIVEN})

    def facts(self) -> dict[str, bool]:
        """Facts that decide which options apply: whether the images are generated circles (the default)."""
        return {"circles": self.circles_by_default}

    @property
    def page(self) -> Path:
        """The file to write."""
        source = Path(self.pretrained_model_name_or_path)
        if self.output is not None:
            return Path(self.output)
        return (source if source.is_dir() else source.parent) / PAGE if source.exists() else Path(PAGE)


def run(argv: Sequence[str] | None, prog: str) -> Path:
    """Parse the options, write the page, and publish it if that was asked for."""
    options = parse(LabOptions, argv, prog=prog, description=__doc__)
    if options.push_to_space is not None:
        check_space(options.push_to_space)
    check_output_files({"output": str(options.page)})
    record = options.record()
    if options.train_data_dir is None and options.dataset_name is None and record.dataset not in (None, GENERATED):
        raise UserError(
            f"no images were given, and the model was trained on {record.dataset}: name images with --data_dir or "
            "--dataset_name ('circles' for generated ones)."
        )
    adapter = options.open()
    lab = LatentLab(
        adapter, _images(options, adapter, record), resolution=options.resolution, max_images=options.max_images
    )
    try:
        path = lab.export_html(options.page, onnxruntime_web=options.onnxruntime_web)
    finally:
        lab.close()
    say(f"the page has {path.stat().st_size / 1e6:.1f} MB and {len(lab.images)} images, and opens without a network.")
    print(path)
    if options.push_to_space is not None:
        _publish(options, path, options.push_to_space)
    return path


def _images(options: LabOptions, adapter: Adapter, record: RunRecord) -> Any:
    """The images that the user named; None for circles, which the lab generates."""
    if options.facts()["circles"]:
        return None
    crop = options.crop_or_that_of_training([record])
    return options.load(adapter, options.resolution or adapter.natural_resolution, crop)


def _publish(options: LabOptions, path: Path, space: str) -> None:
    """Publish the page; the card of a folder links it, and the Hub links it from a model there."""
    source = options.pretrained_model_name_or_path
    folder = Path(source)
    models = () if folder.exists() else (source,)
    title = f"Latent Lab of {Path(source).resolve().name if folder.exists() else source}"
    push_page(path.read_text(encoding="utf-8"), space, title=title, models=models, private=options.private)
    say(f"the page is published: {address_of(space)}")
    if folder.is_dir() and options.subfolder is None and any((folder / name).exists() for name in (RUN_FILE, CARD)):
        record = RunRecord.load(folder)
        record.lab = space
        record.save(folder)
        say(f"{write_card(folder)} links it: push the folder again to publish that.")
