"""Colours and gray levels of image files: profiles to sRGB; 16-bit gray to 8 bits, by the rules of old runs."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from ..notices import say_once
from .rasters import Raster
from .rules import DataRules

# The colour space of a profile -> the mode that it is applied in, and the modes of images that can be brought to it.
SPACES = {
    "RGB": ("RGB", ("RGB", "RGBA", "RGBX", "RGBa", "P", "PA", "YCbCr")),
    "GRAY": ("L", ("L", "LA", "1")),
    "CMYK": ("CMYK", ("CMYK",)),
}
SAME = 1  # levels that a profile may differ by from sRGB and count as it, so that its images stay as they are


def has_alpha(image: Image.Image) -> bool:
    """Whether some pixels of an image may be transparent."""
    return image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info


def to_srgb(image: Image.Image, name: str) -> Image.Image:
    """Convert an image with an embedded colour profile to sRGB; what is transparent stays so.

    A profile that is broken, or of another colour space than the image, changes nothing, and is said once.

    Args:
        image: image of 8 bits.
        name: of the image, for the notice.
    """
    profile = image.info.get("icc_profile")
    if not profile:
        return image
    try:
        space, transform = _transform(profile)
        mode, modes = SPACES[space]
        if transform is None:
            return image
        if image.mode not in modes:
            raise ValueError(f"it is for {space}, and the image is {image.mode}")
        rgba = image.convert("RGBA") if has_alpha(image) else None
        plain = image if rgba is None else rgba.convert("RGB")
        if mode == "L" and rgba is not None:
            plain = rgba.getchannel("R")
        converted = transform.apply(plain.convert(mode))
        if rgba is not None:
            converted.putalpha(rgba.getchannel("A"))
        return converted
    except Exception as error:  # what broken profiles raise depends on the version of Pillow
        _note_unusable(error, name)
        return image


def deep_to_srgb(raster: Raster, profile: bytes, name: str) -> Raster:
    """As `to_srgb`, of gray or colours of 8 or 16 bits, which keep them.

    Args:
        raster: with `colours`.
        profile: embedded in the file.
        name: of the image, for the notice.
    """
    try:
        space, transform = _transform(profile)
        if transform is None:
            return raster
        if raster.bands.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"the values are {raster.bands.dtype}, and those of 8 and 16 bits are converted")
        count = raster.bands.shape[-1]
        given = 3 if count > 2 else 1
        if SPACES[space][0] != {3: "RGB", 1: "L"}[given]:
            raise ValueError(f"it is for {space}, and the image is {'RGB' if given == 3 else 'gray'}")
        import imagecodecs  # only what has such a profile needs it

        colour = np.ascontiguousarray(raster.bands[..., :given])
        converted = imagecodecs.cms_transform(
            colour if given == 3 else colour[..., 0],
            profile,
            _srgb(),
            colorspace="rgb" if given == 3 else "gray",
            outcolorspace="rgb",
            outdtype=raster.bands.dtype.name,
        )
        return replace(raster, bands=np.concatenate([converted, raster.bands[..., given:]], axis=-1))
    except Exception as error:
        _note_unusable(error, name)
        return raster


def _note_unusable(error: Exception, name: str) -> None:
    reason = " ".join(str(error).split()) or type(error).__name__
    say_once(
        "colour profile",
        f"the colour profile of {name} cannot be used ({reason}): its colours are taken as sRGB, and so are those of "
        "others like it.",
    )


@lru_cache(maxsize=1)
def _srgb() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@lru_cache(maxsize=32)
def _transform(profile: bytes) -> tuple[str, Any]:
    """Colour space of a profile, and the transform from it to sRGB; None if that changes nothing."""
    from PIL import ImageCms  # some builds of Pillow lack it

    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = source.profile.xcolor_space.strip()
    if space not in SPACES:
        raise ValueError(f"it is for {space}")
    mode = SPACES[space][0]
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    probe = _probe(mode)
    if probe is not None:
        difference = np.asarray(transform.apply(probe)).astype(int) - np.asarray(probe.convert("RGB"))
        if abs(difference).max() <= SAME:
            return space, None
    return space, transform


def _probe(mode: str) -> Image.Image | None:
    if mode == "CMYK":
        return None
    levels = np.linspace(0, 255, 256 if mode == "L" else 17).round().astype(np.uint8)
    if mode == "L":
        return Image.fromarray(levels[None])
    return Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), -1).reshape(17, -1, 3))


def note_range_of_16_bits(largest: int, of: int, name: str) -> None:
    """Say once that the values of a file of 16 bits end where those of 12 bits do.

    Args:
        largest: value in the image.
        of: largest value that there could be: 65535, or 255 where Pillow has kept the upper 8 bits.
        name: of the image.
    """
    if 0 < largest <= of >> 4:
        say_once(
            "range of 16 bits",
            f"{name} has 16 bits, but its values end at {largest} of {of}, so that it is nearly black: if they are of "
            "12 bits or fewer, scale the files to 16.",
        )


def note_transparent_16_bits(image: Image.Image, name: str) -> None:
    """Say once that the colour which a file of 16 bits declares transparent is not: Pillow reads such RGB in 8 bits."""
    colour = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(colour, tuple) and max(colour) > 255:
        say_once("transparent RGB of 16 bits", f"the transparent colour of {name}, {colour} in 16 bits, stays opaque.")


def to_8_bits(image: Image.Image, rules: DataRules, name: str) -> Image.Image:
    """Scale gray of 16 bits to 8: mode L, or LA where the file declares a value transparent.

    Args:
        image: image of mode I or I;16.
        rules: of the data.
        name: of the image, for a notice where the values use 12 bits or fewer.

    Raises:
        ValueError: for values beyond 16 bits.
    """
    # PIL opens some 16-bit files as 32-bit images, and its own conversion clips everything above 255.
    pixels = np.asarray(image).astype(np.int64)
    if pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError(f"gray values range from {pixels.min()} to {pixels.max()}: save the image with 8 or 16 bits.")
    note_range_of_16_bits(int(pixels.max()), 65535, name)
    converted = Image.fromarray(((pixels * 255 + 32767) // 65535).astype(np.uint8))
    transparent = image.info.get("transparency")
    if rules.transparent_16_bits and isinstance(transparent, int):
        converted.putalpha(Image.fromarray(np.where(pixels == transparent, 0, 255).astype(np.uint8)))
    if "icc_profile" in image.info:
        converted.info["icc_profile"] = image.info["icc_profile"]
    return converted
