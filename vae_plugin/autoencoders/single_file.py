"""A model in one .safetensors file: under the names of diffusers, or those of the original code of latent diffusion."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import init_empty_weights
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from ..errors import UserError
from ..files import write_json
from .weights import ONLY_TRAINING_COUNTS, WEIGHTS_NAME, WRAPPERS, WeightsError, check_finite, few, header, reason

FIRST = "encoder.conv_in.weight"  # in both layouts
ORIGINAL = re.compile(r"(?:^|\.)(?:encoder|decoder)\.(?:down|mid|up)\.")
IN_CHECKPOINT = "first_stage_model."
NOT_THE_MODEL = "loss."  # of its training
NORM_GROUPS = 32  # of every published model


@dataclass(frozen=True)
class Scale:
    """How the pipelines of a published model scale its latents."""

    name: str
    scaling_factor: float
    shift_factor: float | None = None
    force_upcast: bool = False


SD = Scale("Stable Diffusion 1 and 2", 0.18215, force_upcast=True)
SDXL = Scale("Stable Diffusion XL", 0.13025, force_upcast=True)
SDXL_FP16 = Scale("Stable Diffusion XL, for float16", 0.13025)
SD3 = Scale("Stable Diffusion 3", 1.5305, 0.0609, force_upcast=True)
FLUX = Scale("FLUX.1", 0.3611, 0.1159, force_upcast=True)

PUBLISHED = {  # bytes and SHA-256 of files that hold an autoencoder alone
    (334641190, "735e4c3a447a3255760d7f86845f09f937809baa529c17370d83e4c3758f3c75"): SD,  # vae-ft-mse-840000-ema-pruned
    (334641164, "63aeecb90ff7bc1c115395962d3e803571385b61938377bc7089b36e81e92e2e"): SDXL,  # sdxl_vae
    (334641162, "235745af8d86bf4a4c1b5b4f529868b37019a10f7c0b2e79ad0abca3a22bc6e1"): SDXL_FP16,  # sdxl-vae-fp16-fix
    (335304388, "afc8e28272cd15db3919bacdb6918ce9c1ed22e96cb12c4d5ed0fba823529e38"): FLUX,  # ae
}
DENOISERS = (  # a name in the rest of a whole checkpoint -> whose it is; the first that occurs
    ("joint_blocks.", SD3),
    ("double_blocks.", FLUX),
    ("conditioner.embedders.", SDXL),
    ("cond_stage_model.", SD),
)
USUAL = {4: SD, 16: FLUX}  # by latent channels


def config_in(file: Path) -> dict[str, Any] | None:
    """The config.json in a file's metadata, where our own exports have it; None if there is none.

    Raises:
        UserError: if the file is no safetensors file.
    """
    try:
        with safe_open(file, "pt") as opened:
            metadata = opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} is damaged, or no safetensors file ({reason(error)}): copy it again.") from error
    try:
        config = json.loads(metadata.get("config", ""))
    except (ValueError, RecursionError):
        return None
    return config if isinstance(config, dict) and "_class_name" in config else None


def config_from_weights(file: Path) -> tuple[dict[str, Any], str]:
    """The config of an `AutoencoderKL` or `AutoencoderKLFlux2`, its architecture as the shapes of the weights say it.

    The scale of the latents is that of the published model with these very bytes, or of the denoiser in the same file.
    Otherwise it is guessed.

    Returns:
        The config, and a sentence that says whose scale it has.

    Raises:
        UserError: if the weights are those of something else.
    """
    stored = header(file)
    prefix = _prefix(stored, file)
    shapes = {name[len(prefix) :]: shape for name, (_, shape) in stored.items() if name.startswith(prefix)}
    try:
        config = _architecture(shapes)
    except (KeyError, IndexError, ValueError) as error:
        raise UserError(
            f"no autoencoder is known whose weights have these names: {few(shapes)} in {file}. Give its config.json "
            "(--model_config)."
        ) from error
    if config["_class_name"] == "AutoencoderKLFlux2":  # its weights hold the scale
        return config, f"{file} is read as the autoencoder of FLUX.2."
    known = _published(file) or next((scale for word, scale in DENOISERS if any(word in name for name in stored)), None)
    scale = known or USUAL.get(config["latent_channels"]) or Scale("a new model", 1.0)
    if known is not None:
        said = f"{file} is read as the autoencoder of {known.name}, with scaling_factor {known.scaling_factor}."
    else:
        other = {SD: SDXL, FLUX: SD3}.get(scale)
        also = "" if other is None else f" (that of {other.name} is {other.scaling_factor})"
        said = (
            f"{file} does not say how its latents are scaled: scaling_factor {scale.scaling_factor} is a guess, as of "
            f"{scale.name}{also}. Give its config.json (--model_config) if that is wrong."
        )
    scaling = {"scaling_factor": scale.scaling_factor, "shift_factor": scale.shift_factor}
    return {**config, **scaling, "force_upcast": scale.force_upcast}, said


def is_original(file: Path) -> bool:
    """Whether the names in a file are those of the original code rather than of diffusers."""
    return any(map(ORIGINAL.search, header(file)))


@contextmanager
def as_folder(file: Path, config: Mapping[str, Any]) -> Iterator[str]:
    """A temporary folder in which the file stands as the weights of a model of diffusers."""
    with tempfile.TemporaryDirectory(prefix="vae-plugin-file-") as folder:
        write_json(Path(folder) / "config.json", dict(config))
        target = Path(folder) / f"{WEIGHTS_NAME}.safetensors"
        try:
            os.symlink(file.resolve(), target)
        except OSError:  # where links are not allowed
            shutil.copyfile(file, target)
        yield folder


def load_original(cls: Any, file: Path, config: Mapping[str, Any]) -> Any:
    """A model of the given config in float32, from a file with the names of the original code, every tensor of it.

    Raises:
        WeightsError: if the weights do not fit.
    """
    state = load_file(file)
    prefix = _prefix(state, file)
    part = {WRAPPERS.sub("", name[len(prefix) :]): value for name, value in state.items() if name.startswith(prefix)}
    part = {name: value for name, value in part.items() if not name.startswith(NOT_THE_MODEL)}
    with init_empty_weights():
        model = cls.from_config(dict(config))
    expected = model.state_dict()
    try:
        converted = convert_ldm_vae_checkpoint(dict(part), config)
    except Exception as error:  # what other names lead to has no common class
        raise WeightsError(f"the weights of {file} do not fit {cls.__name__}: {reason(error)}.") from error
    read = {value.data_ptr() for value in converted.values()}
    rest = {name: value for name, value in part.items() if value.data_ptr() not in read}
    converted |= {name: value for name, value in rest.items() if name in expected}  # named alike, such as FLUX.2's norm
    wrong = {
        "missing": [name for name in expected if name not in converted and not name.endswith(ONLY_TRAINING_COUNTS)],
        "unknown to it": [name for name in {**rest, **converted} if name not in expected],
        "of another shape": [n for n, v in converted.items() if n in expected and v.shape != expected[n].shape],
        "without floating-point numbers": [
            n for n, v in converted.items() if n in expected and expected[n].is_floating_point() > v.is_floating_point()
        ],
    }
    said = [f"{few(names)} {what}" for what, names in wrong.items() if names]
    if said:
        raise WeightsError(
            f"the weights of {file} do not fit {cls.__name__}: {'; '.join(said)}. Give the config.json that they were "
            "saved with."
        )
    model.load_state_dict({name: value.to(expected[name].dtype) for name, value in converted.items()}, False, True)
    check_finite(model.state_dict(), f"the weights of {file}", "take those of an earlier checkpoint")
    model.register_to_config(_name_or_path=str(file))
    return model.eval()


def _prefix(names: Collection[str], file: Path) -> str:
    """What stands before every name of the autoencoder in a file."""
    prefixes = [name.removesuffix(FIRST) for name in names if name == FIRST or name.endswith("." + FIRST)]
    if len(prefixes) > 1:
        prefixes = [prefix for prefix in prefixes if prefix.endswith(IN_CHECKPOINT)]
    if len(prefixes) != 1:
        raise UserError(
            f"{file} holds no autoencoder of a known kind: it has {few(names) or 'no weights'}, and not one {FIRST}."
        )
    return prefixes[0]


def _architecture(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The config that has weights of these shapes; KeyError or ValueError if none has."""
    down = [
        re.match(r"encoder\.(?:down|down_blocks)\.(\d+)\.(?:block|resnets)\.(\d+)\.conv2\.weight", n) for n in shapes
    ]
    blocks = sorted((int(found[1]), int(found[2]), found[0]) for found in down if found)
    channels = {level: shapes[name][0] for level, _, name in blocks}
    if any(width % NORM_GROUPS for width in channels.values()):
        raise ValueError("another number of groups in the norms")
    flux2 = "bn.running_mean" in shapes
    levels = len(channels)
    return {
        "_class_name": "AutoencoderKLFlux2" if flux2 else "AutoencoderKL",
        "in_channels": shapes[FIRST][1],
        "out_channels": shapes["decoder.conv_out.weight"][0],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "block_out_channels": [channels[level] for level in range(levels)],
        "layers_per_block": 1 + blocks[-1][1],
        "latent_channels": shapes["decoder.conv_in.weight"][1],
        "norm_num_groups": NORM_GROUPS,
        "sample_size": 32 * 2 ** (levels - 1),
        "use_quant_conv": "quant_conv.weight" in shapes,
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
        "mid_block_add_attention": any(".mid" in name and ".att" in name for name in shapes),
    }


def _published(file: Path) -> Scale | None:
    size = file.stat().st_size
    if not any(size == known for known, _ in PUBLISHED):
        return None
    with open(file, "rb") as opened:
        return PUBLISHED.get((size, hashlib.file_digest(opened, "sha256").hexdigest()))
