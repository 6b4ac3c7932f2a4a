"""Pictures of what a model does: reconstructions, prior samples, latent traversals, maps of codes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.models.modeling_utils import ModelMixin
from PIL import Image, ImageDraw, ImageFont

from .autoencoders import Adapter, Autoencoder, AutoencoderVAE, AutoencoderVQVAE, adapt
from .datasets.transforms import bands_to_show, to_pil, to_uint8
from .files import replacing_file
from .latents import traverse

GAP = 2
BACKGROUND = 255
CELL = (128, 384)  # pixels of the longer side of an image in a labelled sheet: at least about, and at most
FONT_SIZE, MARGIN = 16, 8
NAMES_WIDTH = 96  # pixels for the names of rows
AMPLIFIED = 4.0


def grid(images: torch.Tensor, columns: int, min_side: int = 64) -> Image.Image:
    """Arrange images (N, C, H, W) in [-1, 1] row by row; small ones are enlarged to about `min_side` pixels.

    Of images with 2 or more than 4 channels some are shown, see `bands_to_show`.
    """
    pixels = to_uint8(images.detach().float().cpu())
    if (bands := bands_to_show(pixels.shape[1])) is not None:
        pixels = pixels[:, bands]
    enlarge = max(1, math.ceil(min_side / max(pixels.shape[-2:])))
    pixels = pixels.repeat_interleave(enlarge, 2).repeat_interleave(enlarge, 3)
    count, channels, height, width = pixels.shape
    rows = math.ceil(count / columns)
    sheet = torch.full(
        (channels, rows * (height + GAP) + GAP, columns * (width + GAP) + GAP), BACKGROUND, dtype=torch.uint8
    )
    for i, image in enumerate(pixels):
        top = GAP + (i // columns) * (height + GAP)
        left = GAP + (i % columns) * (width + GAP)
        sheet[:, top : top + height, left : left + width] = image
    array = sheet.permute(1, 2, 0).numpy()
    return Image.fromarray(array[:, :, 0] if channels == 1 else array)


def stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures one below the other."""
    width, height = max(each.width for each in pictures), sum(each.height for each in pictures)
    sheet, top = Image.new("RGB", (width, height), "white"), 0
    for each in pictures:
        sheet.paste(each, (0, top))
        top += each.height
    return sheet


def beside(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures side by side, from the top."""
    width = sum(each.width for each in pictures) + MARGIN * (len(pictures) - 1)
    sheet, left = Image.new("RGB", (width, max(each.height for each in pictures)), "white"), 0
    for each in pictures:
        sheet.paste(each, (left, 0))
        left += each.width + MARGIN
    return sheet


def with_names(picture: Image.Image, names: Sequence[str]) -> Image.Image:
    """A picture of as many rows of one height as there are names, with these on its left."""
    font = ImageFont.load_default(FONT_SIZE)
    sheet = Image.new("RGB", (NAMES_WIDTH + picture.width, picture.height), "white")
    draw = ImageDraw.Draw(sheet)
    for row, name in enumerate(names):
        middle = round((row + 0.5) * picture.height / len(names))
        draw.text((NAMES_WIDTH - MARGIN, middle), name, "black", font, anchor="rm")
    sheet.paste(picture, (NAMES_WIDTH, 0))
    return sheet


def labelled(pictures: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Stack pictures, each below a line that says what it shows."""
    font, line = ImageFont.load_default(FONT_SIZE), FONT_SIZE + MARGIN
    width = max(max(picture.width, math.ceil(font.getlength(text)) + 2 * GAP) for text, picture in pictures)
    sheet = Image.new("RGB", (width, sum(line + picture.height for _, picture in pictures)), "white")
    draw, top = ImageDraw.Draw(sheet), 0
    for text, picture in pictures:
        draw.text((GAP, top + line - 4), text, "black", font, anchor="ls")
        sheet.paste(picture, (0, top + line))
        top += line + picture.height
    return sheet


def save_png(image: Image.Image, path: Path) -> Path:
    """Write a picture through `files.replacing_file`."""
    with replacing_file(path) as partial:
        image.save(partial, format="PNG")
    return path


@torch.no_grad()
def reconstructions(
    model: Adapter | ModelMixin,
    images: torch.Tensor,
    columns: int = 8,
    reconstruct: Callable[[torch.Tensor], torch.Tensor] | None = None,
    base: torch.Tensor | None = None,
) -> Image.Image:
    """Show originals above their reconstructions, row by row.

    Args:
        model: an autoencoder, or its adapter.
        images: (N, C, H, W) in [-1, 1].
        columns: images in a row.
        reconstruct: images -> reconstructions; by default from the posterior mode.
        base: reconstructions by another model, of the same shape, for a row between the two.
    """
    adapter = adapt(model)
    images = images.to(adapter.model.device, adapter.model.dtype)
    shown = [images, *([] if base is None else [base.to(images)]), (reconstruct or adapter.reconstruct)(images)]
    rows = []
    for group in zip(*(row.split(columns) for row in shown), strict=True):
        for row in group:
            rows += [row, row.new_ones(columns - len(row), *row.shape[1:])]
    return grid(torch.cat(rows), columns)


@torch.no_grad()
def round_trip(model: Adapter | ModelMixin, image: Image.Image) -> Image.Image:
    """Encode a picture and decode it by diffusers' image processor, as the code in a card does.

    Args:
        model: an autoencoder of gray or RGB images, or its adapter.
        image: whose sides are multiples of the spatial compression ratio.
    """
    adapter = adapt(model)
    gray = adapter.in_channels == 1
    processor = VaeImageProcessor(vae_scale_factor=adapter.spatial_compression_ratio, do_convert_grayscale=gray)
    x = processor.preprocess(image.convert("RGB")).to(adapter.model.device, adapter.model.dtype)
    return processor.postprocess(adapter.reconstruct(x).float().cpu())[0]


@torch.no_grad()
def extremes(
    model: Adapter | ModelMixin,
    images: torch.Tensor,
    reconstruct: Callable[[torch.Tensor], torch.Tensor] | None = None,
    amplify: float = 4.0,
) -> Image.Image:
    """Show images (N, C, H, W), their reconstructions and the amplified error (black for none), in three rows."""
    adapter = adapt(model)
    x = images.to(adapter.model.device, adapter.model.dtype)
    decoded = (reconstruct or adapter.reconstruct)(x)
    error = (amplify * (decoded - x).abs()).clamp(max=2) - 1
    return grid(torch.cat([x, decoded, error]), len(images))


@dataclass(frozen=True)
class Pair:
    """An image beside what a model makes of it.

    Attributes:
        caption: what stands above it, such as "best, 34.2 dB".
        original: (C, H, W) in [-1, 1].
        reconstruction: of the same shape.
    """

    caption: str
    original: torch.Tensor
    reconstruction: torch.Tensor


def labelled_pairs(models: Sequence[tuple[str, Sequence[Pair]]], amplify: float = AMPLIFIED) -> Image.Image:
    """Show originals, reconstructions and the amplified error (black for none) of several models, with labels.

    Args:
        models: name and images of each, which stand below each other.
        amplify: of the error.
    """
    font = ImageFont.load_default(FONT_SIZE)
    labels = ("original", "reconstruction", f"difference x {amplify:g}")
    left = max(math.ceil(font.getlength(label)) for label in labels) + 2 * MARGIN
    line = FONT_SIZE + MARGIN
    blocks = []
    for name, pairs in models:
        columns = [[_cell(image) for image in _three_of(pair, amplify)] for pair in pairs]
        widths = [
            max(column[0].width, math.ceil(font.getlength(pair.caption)))
            for column, pair in zip(columns, pairs, strict=True)
        ]
        height = max(column[0].height for column in columns)
        title = _shortened(name, font, sum(widths) + left)
        width = left + sum(widths) + MARGIN * len(widths)
        block = Image.new("RGB", (width, 2 * line + 3 * (height + MARGIN) + MARGIN), "white")
        draw = ImageDraw.Draw(block)
        draw.text((MARGIN, MARGIN), title, "black", font)
        for row, label in enumerate(labels):
            middle = 2 * line + row * (height + MARGIN) + height // 2
            draw.text((MARGIN, middle), label, "black", font, anchor="lm")
        at = left
        for pair, column, wide in zip(pairs, columns, widths, strict=True):
            draw.text((at, line + MARGIN // 2), pair.caption, "black", font)
            for row, cell in enumerate(column):
                block.paste(cell, (at, 2 * line + row * (height + MARGIN)))
            at += wide + MARGIN
        blocks.append(block)
    return stacked(blocks)


def _three_of(pair: Pair, amplify: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    original, reconstruction = pair.original.float().cpu(), pair.reconstruction.float().cpu()
    return original, reconstruction, (amplify * (reconstruction - original).abs()).clamp(max=2) - 1


def _cell(image: torch.Tensor) -> Image.Image:
    """An image (C, H, W) whose longer side is within `CELL`: enlarged by whole pixels, or reduced."""
    bands = bands_to_show(len(image))
    picture = to_pil(image[:3] if len(image) == 4 else image if bands is None else image[list(bands)]).convert("RGB")
    least, most = CELL
    side = max(picture.size)
    if side > most:
        return picture.resize([max(1, round(each * most / side)) for each in picture.size], Image.Resampling.LANCZOS)
    return picture.resize([each * max(1, round(least / side)) for each in picture.size], Image.Resampling.NEAREST)


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """A text that is no wider, without its beginning where it has to be."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"...{text}") > width:
        text = text[1:]
    return f"...{text}"


@torch.no_grad()
def prior_samples(model: Autoencoder, n: int = 32, seed: int = 0, columns: int = 8) -> Image.Image:
    """Show images decoded from n samples of the prior."""
    return grid(model.sample(n, torch.Generator().manual_seed(seed)), columns)


@torch.no_grad()
def latent_traversal(
    model: AutoencoderVAE,
    images: torch.Tensor,
    rows: int = 6,
    steps: int = 9,
    extent: float = 2.5,
    dimensions: Sequence[int] | None = None,
) -> Image.Image:
    """Move a latent along one direction per row, from -extent to +extent standard deviations.

    For 1x1 latents the directions are the dimensions, sorted by their KL over `images`, and the centre is the mean of
    the prior. Spatial latents have too many dimensions, so their directions are the principal components of the
    posterior means, centred at the mean of these.

    Args:
        model: a VAE.
        images: (N, C, H, W) in [-1, 1].
        rows: directions, at most.
        steps: pictures in a row.
        extent: how far each goes.
        dimensions: of 1x1 latents, to be shown instead of those with the largest KL.
    """
    posterior = model.posterior(images.to(model.device, model.dtype))
    means = posterior.mean
    values = torch.linspace(-extent, extent, steps, device=means.device)
    if means.shape[-2:] == (1, 1):
        by_kl = posterior.kl_per_dimension().mean(0).flatten().argsort(descending=True)
        order = by_kl[:rows] if dimensions is None else dimensions
        latents = torch.cat([traverse(torch.zeros_like(means[0]), int(dim), values) for dim in order])
    else:
        centre = means.mean(0)
        flat = (means - centre).flatten(1)
        _, scale, directions = torch.linalg.svd(flat, full_matrices=False)
        scale = scale / math.sqrt(max(1, len(flat) - 1))
        rows = min(rows, len(directions))
        moves = (scale[:rows, None] * directions[:rows])[:, None] * values[None, :, None]
        latents = centre + moves.flatten(0, 1).unflatten(1, centre.shape)
    size = images.shape[-2:]
    decoded = model.decode(latents.to(model.dtype)).sample[..., : size[0], : size[1]]
    return grid(decoded, steps)


@torch.no_grad()
def index_map(model: AutoencoderVQVAE, images: torch.Tensor) -> Image.Image:
    """Show originals, the codes at every position in false colours, and reconstructions, in three rows.

    Red, green and blue are the first three principal components of the codes in use, so that similar codes look alike.
    """
    x = images.to(model.device, model.dtype)
    encoded = model.encode(x)
    codes = model.quantizer.indices_to_codes(encoded.indices).movedim(1, -1)
    used = codes.flatten(0, -2).unique(dim=0)
    directions = torch.linalg.svd(used - used.mean(0), full_matrices=False)[2][:3]
    colours = (codes - used.mean(0)) @ directions.T
    colours = torch.nn.functional.pad(colours, (0, 3 - colours.shape[-1]))
    low, high = colours.flatten(0, 2).amin(0), colours.flatten(0, 2).amax(0)
    colours = 2 * (colours - low) / (high - low).clamp_min(1e-6) - 1
    ratio = model.spatial_compression_ratio
    positions = colours.movedim(-1, 1).repeat_interleave(ratio, 2).repeat_interleave(ratio, 3)
    height, width = images.shape[-2:]
    rows = [_as_rgb(x), positions, _as_rgb(model.decode_indices(encoded.indices))]
    return grid(torch.cat([row[..., :height, :width].float() for row in rows]), len(images))


@torch.no_grad()
def code_changes(model: AutoencoderVQVAE, images: torch.Tensor, columns: int = 8) -> Image.Image:
    """Show what a single code changes, in two rows for each image.

    The first row has the reconstruction, then reconstructions with another code at one position, from the nearest to
    the farthest of the codes that `images` use. The position is that of the code farthest from the mean of the image's
    codes. The second row has the difference, around gray. If a position has several codes, the first one is changed.
    """
    indices = model.encode(images.to(model.device, model.dtype)).indices
    first = indices[..., 0] if indices.ndim == 4 else indices
    used = first.unique()
    rows = []
    for one, grid_of_first in zip(indices, first, strict=True):
        codes = model.quantizer.indices_to_codes(one[None])[0].flatten(1).T  # (positions, C)
        position = int((codes - codes.mean(0)).norm(dim=1).argmax())
        row, column = divmod(position, grid_of_first.shape[1])
        candidates = one[row, column].expand(1, len(used), *one.shape[2:]).clone()
        candidates[(0, slice(None), *([0] if one.ndim == 3 else []))] = used
        distances = (model.quantizer.indices_to_codes(candidates[None])[0, :, 0].T - codes[position]).norm(dim=1)
        order = distances.argsort()
        order = order[used[order] != grid_of_first[row, column]]
        picked = torch.linspace(0, len(order) - 1, columns - 1).round().long().unique() if len(order) else order
        others = used[order[picked.to(order.device)]]

        changed = one[None].repeat(len(others) + 1, *[1] * one.ndim)
        changed[(slice(1, None), row, column, *([0] if one.ndim == 3 else []))] = others
        decoded = model.decode_indices(changed)[..., : images.shape[-2], : images.shape[-1]].float()
        blank = decoded.new_ones(columns - len(decoded), *decoded.shape[1:])
        rows += [decoded, blank, (decoded - decoded[:1]).clamp(-1, 1), blank]
    return grid(torch.cat(rows), columns)


def _as_rgb(images: torch.Tensor) -> torch.Tensor:
    return images[:, :3] if images.shape[1] > 2 else images[:, :1].expand(-1, 3, -1, -1)
