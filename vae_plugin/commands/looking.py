"""What `evaluate` writes to be looked at: a page to compare by eye, and a picture of the extremes of each model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import Dataset

from .. import metrics, pictures
from ..autoencoders import Adapter
from ..datasets.batches import items_of, name_of_item
from ..hub.space import address_of, check_space, push_page
from ..metrics.choice import extremes_of, images_to_compare
from ..metrics.comparison_page import Compared, comparison_page, write_page
from ..models.distributed import on_first_process
from ..notices import say
from ..options import GIVEN, option
from .models import Models


@dataclass
class Looking:
    """Options that say what is written to be looked at."""

    page: str | None = option(
        None,
        "Also write a page to compare by eye: one HTML file of originals and reconstructions with a wipe, a zoom and "
        "differences.",
        path=True,
    )
    page_images: int = option(
        16,
        "Number of images on the page at most: the best, median and worst of each model by PSNR, then others.",
        at_least=1,
        at_most=1000,
        when={"page": GIVEN},
    )
    push_to_space: str | None = option(
        None,
        "Also publish the page on the Hub, images included, as the static Space of this name: user/name.",
        when={"page": GIVEN},
    )
    private: bool = option(False, "Make the Space private, if it does not exist yet.", when={"push_to_space": GIVEN})
    picture: str | None = option(
        None, "Also write a picture (PNG) of the best, median and worst image of each model.", path=True
    )

    def check_space(self) -> None:
        """Refuse a Space that cannot be published, see `hub.space.check_space`."""
        if self.push_to_space is not None:
            check_space(self.push_to_space)

    def look(
        self,
        models: Models,
        images: Dataset,
        evaluations: Mapping[str, metrics.Evaluation],
        device: torch.device,
    ) -> None:
        """Write what was asked for; every process has to call it.

        Args:
            models: that were measured.
            images: that they were measured on.
            evaluations: of those that gave numbers, by name.
            device: to run them on.
        """
        if self.page is None and self.picture is None:
            return
        numbers = next(iter(evaluations.values())).numbers
        psnr = {name: evaluation.per_image["psnr"] for name, evaluation in evaluations.items()}
        chosen = {} if self.page is None else images_to_compare(psnr, self.page_images)
        extremes = {name: extremes_of(values) for name, values in psnr.items()} if self.picture is not None else {}
        places = sorted({*chosen, *(place for of in extremes.values() for place in of.values())})
        shown = _Shown(images, {place: numbers[place] for place in places})
        for name in evaluations:
            shown.add(name, models, device)
        if self.picture is not None:
            on_first_process(lambda: self._write_picture(shown, extremes))
        if self.page is not None:
            on_first_process(lambda: self._write_page(shown, chosen, evaluations))

    def _write_picture(self, shown: _Shown, extremes: Mapping[str, Mapping[str, int]]) -> None:
        models = [
            (name, [shown.pair(name, what, place) for what, place in of.items()]) for name, of in extremes.items()
        ]
        path = pictures.save_png(pictures.labelled_pairs(models), Path(self.picture or ""))
        say(f"the picture is in {path}.")

    def _write_page(
        self,
        shown: _Shown,
        chosen: Mapping[int, tuple[str, ...]],
        evaluations: Mapping[str, metrics.Evaluation],
    ) -> None:
        compared = (
            Compared(shown.name(place), shown.originals[place], [shown.decoded[m][place] for m in evaluations], tags)
            for place, tags in chosen.items()
        )
        count = len(next(iter(evaluations.values())).numbers)
        title = " and ".join(evaluations)
        page = comparison_page(compared, evaluations, count, title)
        path = Path(self.page or "")
        size = write_page(path, page)
        say(f"the page is in {path}: {len(chosen)} of {count} image(s), {_in_bytes(size)}.")
        if self.push_to_space is not None:
            push_page(page, self.push_to_space, title=title, private=self.private)
            say(f"the page is published: {address_of(self.push_to_space)}")


def _in_bytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


class _Shown:
    """Some images of a data set and their reconstructions, on the first process.

    Args:
        images: the data set.
        numbers: of the images in it, by their place among those that were measured.
    """

    def __init__(self, images: Dataset, numbers: Mapping[int, int]) -> None:
        self.images, self.numbers = images, numbers
        self.originals: dict[int, torch.Tensor] = {}
        self.decoded: dict[str, dict[int, torch.Tensor]] = {}

    def add(self, name: str, models: Models, device: torch.device) -> None:
        """Let a model reconstruct the images, one at a time; every process has to call it."""
        with models.opened(name) as adapter:
            adapter.model.to(device)
            on_first_process(lambda: self._reconstruct(name, adapter))

    @torch.no_grad()
    def _reconstruct(self, name: str, adapter: Adapter) -> None:
        if not self.originals:
            items = items_of(self.images, list(self.numbers.values()))
            self.originals = {place: item["pixel_values"] for place, item in zip(self.numbers, items, strict=True)}
        network = adapter.model
        self.decoded[name] = {
            place: adapter.reconstruct(x[None].to(network.device, network.dtype))[0].float().cpu()
            for place, x in self.originals.items()
        }

    def name(self, place: int) -> str:
        """Of an image."""
        return name_of_item(self.images, self.numbers[place])

    def pair(self, model: str, what: str, place: int) -> pictures.Pair:
        """An image beside what a model makes of it."""
        x, decoded = self.originals[place], self.decoded[model][place]
        decibels = metrics.psnr(decoded[None], x[None]).item()
        return pictures.Pair(f"{what}, {decibels:.2f} dB", x, decoded)
