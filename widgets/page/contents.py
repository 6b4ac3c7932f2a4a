"""What a page is told of a lab: its synced state, the latents of its images, and the space they span."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from vae_plugin.datasets.transforms import bands_to_show
from vae_plugin.errors import UserError
from vae_plugin.widgets.codec import Codec, Encoded
from vae_plugin.widgets.model_code import decoding
from vae_plugin.widgets.pictures import png
from vae_plugin.widgets.session import Session

AXIS = ("key", "group", "index", "low", "high")
BATCH = 8  # images that are encoded together
DEVICE = "WebAssembly, in this browser"
NEEDS_MODEL = "that needs the model itself: open it with LatentLab in a notebook."
ABSENT = {
    "open": f"This page decodes latents but cannot encode images; {NEEDS_MODEL} Latents open here, as .safetensors.",
    "path": f"This page cannot read files by their path; {NEEDS_MODEL}",
}
ABSENT_OF_CODES = {
    "codes": f"This page cannot change single codes; {NEEDS_MODEL}",
    "prior": f"This page cannot draw from the prior over codes; {NEEDS_MODEL}",
}
ABSENT_OF_BANDS = {"bands": f"This page shows the bands that were chosen when it was made; {NEEDS_MODEL}"}


def page_contents(session: Session, traits: Mapping[str, Any]) -> dict[str, Any]:
    """All that js/local/kernel.js answers from, as JSON with bytes; latents are float32.

    Args:
        session: of the lab.
        traits: its synced state, by name.
    """
    codec, space, state = session.codec, session.survey.require_space(), session.state
    info = {**traits["_info"], "device": DEVICE, "dtype": "float32", "absent": _absent(codec), "upload": None}
    image = None
    if state.original is not None and state.encoded is not None:
        image = {"row": state.row, **_image(codec, state.title, state.original, state.encoded)}
    return {
        "traits": {**traits, "_info": info, "_problems": []},
        "decoder": {
            "imageSize": list(codec.image_size),
            "ratio": codec.spatial_compression_ratio,
            "bands": list(shown_bands(codec)),
        },
        "decode": decoding(codec),
        "images": _images(session),
        "shelf": [_bytes(item.latent) for item in session.keeper.shelf],
        "axes": [{name: getattr(axis, name) for name in AXIS} for axis in space.axes.values()],
        "space": {
            "mean": _bytes(space.mean),
            "directions": _bytes(space.directions),
            "scales": _bytes(space.scales),
            "slopes": _bytes(space.slopes),
            "middles": _bytes(torch.tensor([a.middle for a in space.axes.values() if a.group == "labels"])),
        },
        "attributes": _attributes(session),
        "state": {
            "latent": _bytes(state.latent),
            "image": image,
            "seed": state.seed,
            "name": state.title,
            "edited": state.edited,
        },
    }


def shown_bands(codec: Codec) -> tuple[int, ...]:
    """The channels of an image that a picture shows: one in gray, three, or four with the opacity."""
    return codec.shown.chosen or bands_to_show(codec.channels) or tuple(range(codec.channels))


def _absent(codec: Codec) -> dict[str, str]:
    several = codec.shown.chosen is not None
    return {**ABSENT, **(ABSENT_OF_CODES if codec.discrete else {}), **(ABSENT_OF_BANDS if several else {})}


def _images(session: Session) -> list[dict[str, Any]]:
    codec, images, rows = session.codec, session.images, session.survey.require_space().rows
    found = []
    for begin in range(0, len(rows), BATCH):
        some = rows[begin : begin + BATCH]
        pixels = [images[row] for row in some]
        encoded = codec.encode(torch.stack(pixels))
        for i, (row, x) in enumerate(zip(some, pixels, strict=True)):
            found.append({"row": row, **_image(codec, images.describe(row), x, encoded.one(i))})
    return found


def _image(codec: Codec, name: str, x: torch.Tensor, encoded: Encoded) -> dict[str, Any]:
    return {
        "name": name,
        "png": png(codec.to_rgba(x[None])[0]),
        "mean": _bytes(encoded.mean),
        "std": None if encoded.std is None else _bytes(encoded.std),
        "kl": None if encoded.kl is None else encoded.kl.sum().item(),
        "comparable": codec.channels in (1, 3),  # of others the picture shows a part, or browsers change its colours
    }


def _attributes(session: Session) -> list[dict[str, Any]]:
    """The direction of each label, as an attribute of the images."""
    found: list[dict[str, Any]] = []
    for name, labels in session.images.labels.items():
        for value in labels.names if labels.names is not None else [None]:
            try:
                inside, outside = (session.survey.group(name, value, inside) for inside in (True, False))
            except UserError:  # all images have it, or none
                continue
            found.append({"label": name, "value": value, "direction": _bytes(inside.mean(0) - outside.mean(0))})
    return found


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().float().cpu().contiguous().numpy().tobytes()
