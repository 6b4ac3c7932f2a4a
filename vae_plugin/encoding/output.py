"""The folder of latents: its index, and which of its shards are whole."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..datasets.latents import LAYOUTS, MANIFEST
from ..datasets.latents.dataset import read_manifest
from ..errors import UserError
from ..files import PARTIAL, make_folder, write_json
from ..locks import LOCK
from ..metrics import RunningMoments
from ..texts import read_json_object

PARTS = ".encoding"  # in the folder while it is not complete: a file for each whole shard, written after it
WORDS = {
    "model.sha256": "another model",
    "data.digest": "other data, or files that were added, removed or changed since",
    "data.images": "other data",
}


class Output:
    """A folder of latents.

    Args:
        folder: that is written to.
        manifest: of what is to be written; all of it decides whether a folder that exists can be continued, but for
            what `INFORMAL` names.
        count: of the shards.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any], count: int) -> None:
        self.folder, self.manifest, self.count = folder, manifest, count

    def begin(self, overwrite: bool) -> bool:
        """Make the folder, or continue with it; whether there is anything left to do.

        Raises:
            UserError: if it holds something else.
        """
        make_folder(self.folder)
        begun = False
        if (self.folder / MANIFEST).exists():
            then = read_manifest(self.folder)
            begun = bool(then.get("complete")) or any((self.folder / PARTS).glob("*.json"))
            if overwrite or not begun:
                self._clear(then)
            else:
                self._check_same(then)
                if then.get("complete"):
                    shutil.rmtree(self.folder / PARTS, ignore_errors=True)
                    self.manifest = then
                    return False
        elif any(path.name not in (LOCK, MANIFEST + PARTIAL) for path in self.folder.iterdir()):
            raise UserError(
                f"{self.folder} holds files, and no {MANIFEST} of latents: give a new folder as --output, so that "
                "nothing of yours is mixed with them."
            )
        if overwrite or not begun:
            write_json(self.folder / MANIFEST, self.manifest)
        (self.folder / PARTS).mkdir(exist_ok=True)
        return True

    def part(self, shard: int) -> Path:
        """The file that says that a shard is whole."""
        return self.folder / PARTS / f"{shard:05d}.json"

    def missing(self) -> list[int]:
        """The shards that are not whole."""
        return [shard for shard in range(self.count) if not self.part(shard).exists()]

    def whole(self) -> int:
        """How many images whole shards have, those that could not be read included."""
        parts = [read_json_object(self.part(shard)) for shard in range(self.count) if self.part(shard).exists()]
        return sum(part["images"] + len(part["left_out"]) for part in parts)

    def finish(self) -> dict[str, Any]:
        """Gather what the shards tell, write what stands beside them, and say that all are there."""
        moments, images, left_out, clipped, shards = RunningMoments(), 0, {}, [], []
        for shard in range(self.count):
            part = read_json_object(self.part(shard))
            images += part["images"]
            left_out.update(part["left_out"])
            clipped += part.get("clipped", [])
            shards.append(part["images"])
            moments.merge(part["moments"])
        if not images:
            name = min(left_out)
            raise UserError(
                f"none of the {len(left_out)} images can be read ({name}: {left_out[name].rstrip('.')}): give "
                "data with images."
            )
        statistics = {"mean": moments.mean.tolist(), "std": moments.std.tolist(), "values_per_channel": moments.count}
        found = {
            "images": images,
            "left_out": left_out,
            "clipped": clipped,
            "images_of_shards": shards,
            "statistics": statistics,
        }
        self.manifest = {**self.manifest, **found, "complete": True}
        LAYOUTS[self.manifest["format"]].finish(self.folder, self.manifest)
        write_json(self.folder / MANIFEST, self.manifest)
        shutil.rmtree(self.folder / PARTS, ignore_errors=True)
        return self.manifest

    def _check_same(self, then: Mapping[str, Any]) -> None:
        before, now = _flat(then), _flat(self.manifest)
        for name, value in now.items():
            if name in INFORMAL or before.get(name) == value:
                continue
            then_and_now = f"{_shown(before.get(name))} instead of {_shown(value)}"
            what = WORDS.get(name) or f"--{name.rpartition('.')[2]} {then_and_now}"
            raise UserError(
                f"{self.folder} holds latents of {what}: give another --output, or --overwrite to replace them."
            )

    def _clear(self, then: Mapping[str, Any]) -> None:
        """Remove what `then` tells of, but its manifest. Killed in the middle, the folder is one that is not begun."""
        if then.get("complete"):
            write_json(self.folder / MANIFEST, {**then, "complete": False})
        shutil.rmtree(self.folder / PARTS, ignore_errors=True)
        layout = LAYOUTS.get(str(then.get("format")))
        for file in [] if layout is None else [*layout.files(self.folder), *layout.files(self.folder, PARTIAL)]:
            file.unlink()


INFORMAL = ("complete", "vae_plugin", "model.name", "model.revision", "data.name", "data.revision")


def _flat(content: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Mapping) and name in ("model", "data", "labels"):
            found |= _flat(value, f"{name}.")
        else:
            found[before + name] = value
    return found


def _shown(value: Any) -> str:
    return {True: "on", False: "off", None: "none"}[value] if isinstance(value, bool | None) else str(value)
