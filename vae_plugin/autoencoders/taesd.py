"""The files of TAESD (https://github.com/madebyollin/taesd): the encoder in one and the decoder in another, no config.

Each is an `nn.Sequential`, and an `AutoencoderTiny` has the same layers under other names; the decoder begins with a
clamp that is a layer there, and not here.
"""

from __future__ import annotations

import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..errors import UserError
from ..files import write_json
from .tiny_flux2 import BATCH_NORM_EPS
from .weights import WEIGHTS_NAME, WeightsError, check_finite, few, header, reason

PARTS = ("encoder", "decoder")
LAYERS_BEFORE = {"encoder": 0, "decoder": 1}  # the clamp
ENDINGS = (".safetensors", ".sft", ".pth")  # the first that is there is read
NAMED = re.compile(r"(?P<name>.+)_(?P<part>encoder|decoder)")
LAYER = re.compile(r"(?P<index>\d+)\.(?P<rest>.+)")
POOLED = ".pool."  # in the names of blocks that `AutoencoderTiny` does not have
LATENTS = {"taesd": 4, "taesdxl": 4, "taesd3": 16, "taef1": 16, "taef2": 32}  # channels, by whose latents they are
SAFE_PICKLES = "2.10"  # before it, torch's reader of weights alone could be made to write anywhere in memory


def class_of(name: str) -> str:
    """The class that a model of `LATENTS` is."""
    return "AutoencoderTinyFlux2" if name == "taef2" else "AutoencoderTiny"


def renamed_for_taesd(part: str, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of the encoder or decoder of an `AutoencoderTiny`, under the names of TAESD's code."""
    shift = LAYERS_BEFORE[part]
    return {
        re.sub(r"^layers\.(\d+)", lambda match: str(int(match[1]) + shift), key): value for key, value in state.items()
    }


def renamed_for_diffusers(part: str, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of a file of TAESD's, under the names of an `AutoencoderTiny`."""
    shift = LAYERS_BEFORE[part]
    return {
        LAYER.sub(lambda match: f"{part}.layers.{int(match['index']) - shift}.{match['rest']}", key): value
        for key, value in state.items()
    }


def is_taesd_file(file: str | os.PathLike) -> bool:
    """Whether a file is one of such a pair: by its name, and if it is safetensors by the names in it."""
    file = Path(file)
    if file.suffix.lower() not in ENDINGS or not file.is_file():
        return False
    if file.suffix.lower() == ".pth":
        return NAMED.fullmatch(file.stem) is not None
    try:
        names = header(file)
    except (SafetensorError, OSError):
        return False
    return bool(names) and all(map(LAYER.fullmatch, names))


@dataclass(frozen=True)
class Pair:
    """The two files of one model."""

    encoder: Path
    decoder: Path

    def __str__(self) -> str:
        return f"{self.encoder} and {self.decoder.name}"


def pair_at(source: str | os.PathLike) -> Pair | None:
    """The pair in a folder, or that a file belongs to; None if there is no file of that kind.

    Raises:
        UserError: if there are several pairs in the folder, or a file lacks its other half.
    """
    if not os.path.isdir(source):
        return _pair_of(Path(source)) if is_taesd_file(source) else None
    folder = Path(source)
    files = [file for file in sorted(folder.iterdir()) if is_taesd_file(file)]
    found = [(match["name"], match["part"]) for file in files if (match := NAMED.fullmatch(file.stem))]
    if not found:
        return None
    pairs = sorted({name for name, _ in found if all((name, part) in found for part in PARTS)})
    if len(pairs) > 1:
        raise UserError(
            f"{folder} holds several models in TAESD's files: {', '.join(pairs)}. Name one of their files, such as "
            f"{_file(folder, pairs[0], 'encoder')}."
        )
    return _pair_of(_file(folder, *(found[0] if not pairs else (pairs[0], "encoder"))))


def _pair_of(file: Path) -> Pair:
    match = NAMED.fullmatch(file.stem)
    if match is None:
        raise UserError(
            f"{file} has half of a model in TAESD's layout: name it NAME_encoder{file.suffix} or "
            f"NAME_decoder{file.suffix}, with the other one beside it."
        )
    other = next(part for part in PARTS if part != match["part"])
    beside = _file(file.parent, match["name"], other, file.suffix)
    if not beside.is_file():
        raise UserError(
            f"{file} is the {match['part']} of a pair in TAESD's files, and there is no {match['name']}_{other} beside "
            "it: put both into one folder."
        )
    return Pair(**{match["part"]: file, other: beside})


@contextmanager
def as_folder(pair: Pair) -> Iterator[tuple[dict[str, Any], str]]:
    """A temporary folder in which the pair stands as a model of diffusers, and its config.

    Raises:
        UserError: if the files cannot be read or are not two halves of one model, or if the model that is opened in the
            block turns out to have other layers.
    """
    halves = {"encoder": _read(pair.encoder), "decoder": _read(pair.decoder)}
    config = _config(halves, pair)
    state = {name: value for part in PARTS for name, value in renamed_for_diffusers(part, halves[part]).items()}
    check_finite(state, f"the weights of {pair}", "download them again")
    if config["_class_name"] == "AutoencoderTinyFlux2":
        state |= identity_statistics(config["latent_channels"])
    with tempfile.TemporaryDirectory(prefix="vae-plugin-taesd-") as folder:
        write_json(Path(folder) / "config.json", config)
        # Copies, because tensors in a pickle may share memory.
        save_file(
            {name: value.clone(memory_format=torch.contiguous_format) for name, value in state.items()},
            Path(folder) / f"{WEIGHTS_NAME}.safetensors",
            {"format": "pt"},
        )
        try:
            yield config, folder
        except WeightsError as error:
            raise UserError(
                f"{pair} have other layers than TAESD's code gives them: give those of {', '.join(LATENTS)}, or of "
                "another model of their architecture."
            ) from error


def identity_statistics(latent_channels: int) -> dict[str, torch.Tensor]:
    """Running statistics of a batch norm that does nothing to patches of 2 x 2 latents."""
    patched = 4 * latent_channels
    return {"bn.running_mean": torch.zeros(patched), "bn.running_var": torch.full((patched,), 1 - BATCH_NORM_EPS)}


def _file(folder: Path, name: str, part: str, ending: str = ENDINGS[0]) -> Path:
    """The file of that name and part, with that ending if there is one."""
    files = [folder / f"{name}_{part}{end}" for end in (ending, *ENDINGS)]
    return next((file for file in files if file.is_file()), files[0])


def _read(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file by name.

    Raises:
        UserError: if it holds anything else, or is damaged.
    """
    state = _unpickled(file) if file.suffix.lower() == ".pth" else _loaded(file)
    others = [name for name, value in state.items() if not value.is_floating_point()]
    if others:
        raise UserError(f"{few(others)} in {file} are no floating-point numbers: give weights that are not quantised.")
    return state


def _loaded(file: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} is damaged, or no safetensors file ({reason(error)}): copy it again.") from error


def _unpickled(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a .pth, of which nothing is run: it may hold tensors by name, and nothing else."""
    if torch.__version__ < SAFE_PICKLES:  # not text: it compares as versions do
        raise UserError(
            f"{file} is a pickle, which torch {torch.__version__} cannot open safely: give the .safetensors, or "
            f"install torch {SAFE_PICKLES} or newer."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is an error here
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # what can be in a pickle has no common class
        raise UserError(
            f"{file} is damaged, or a pickle with something else in it than tensors, which could run code: give the "
            ".safetensors."
        ) from error
    tensors = isinstance(state, dict) and all(
        isinstance(name, str) and type(value) is torch.Tensor and value.layout is torch.strided
        for name, value in state.items()
    )
    if not tensors:
        raise UserError(f"{file} does not hold tensors by name alone: give the .safetensors.")
    return dict(state)


def _config(halves: Mapping[str, Mapping[str, torch.Tensor]], pair: Pair) -> dict[str, Any]:
    """The config of the model that has weights of these shapes."""
    encoder, decoder = halves["encoder"], halves["decoder"]
    try:
        first, last = (_convolutions(encoder)[at] for at in (0, -1))
        width, in_channels = encoder[f"{first}.weight"].shape[:2]
        latents = encoder[f"{last}.weight"].shape[0]
        first, last = (_convolutions(decoder)[at] for at in (0, -1))
        decoded, out_channels = decoder[f"{first}.weight"].shape[1], decoder[f"{last}.weight"].shape[0]
        down, up = _blocks(encoder), _blocks(decoder)
    except (IndexError, ValueError) as error:
        raise UserError(f"{pair} do not have the layers of TAESD: give its encoder and its decoder.") from error
    if decoded != latents:
        raise UserError(
            f"{pair} do not belong together: the encoder gives latents of {latents} channels, and the decoder takes "
            f"{decoded}."
        )
    common = {"in_channels": in_channels, "out_channels": out_channels, "latent_channels": latents}
    if any(POOLED in name for name in (*encoder, *decoder)):
        return {
            "_class_name": "AutoencoderTinyFlux2",
            **common,
            "block_out_channels": [width] * len(down),
            "layers_per_block": max(down),
            "batch_norm_eps": BATCH_NORM_EPS,
        }
    return {
        "_class_name": "AutoencoderTiny",
        **common,
        "encoder_block_out_channels": [width] * len(down),
        "decoder_block_out_channels": [width] * len(up),
        "num_encoder_blocks": down,
        "num_decoder_blocks": up,
    }


def _convolutions(state: Mapping[str, torch.Tensor]) -> list[int]:
    return sorted(int(found[1]) for name in state if (found := re.fullmatch(r"(\d+)\.weight", name)))


def _blocks(state: Mapping[str, torch.Tensor]) -> list[int]:
    """Number of blocks of each level, which a convolution ends."""
    blocks = [int(found[1]) for name in state if (found := re.fullmatch(r"(\d+)\.conv\.0\.weight", name))]
    places = _convolutions(state)
    return [sum(low < block < high for block in blocks) for low, high in pairwise(places)]
