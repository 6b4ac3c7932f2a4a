"""Write a model in the file formats of other tools."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..autoencoders import Adapter
from ..autoencoders.padding import how_to_pad
from ..autoencoders.taesd import LATENTS
from ..errors import UserError
from ..export.diffusers_folder import save_diffusers_folder
from ..export.factors import with_factors
from ..export.onnx_files import LAYOUTS, OPSETS, TOLERANCES, save_onnx
from ..export.place import check_file, check_folder, fill_folder
from ..export.remote_code import write_remote_code
from ..export.single_file import (
    PREFIXES,
    SUFFIX,
    foreign_to_other_tools,
    how_diffusers_reads,
    layout_of,
    save_single_file,
)
from ..export.taesd_files import save_taesd
from ..hub.latent_space import denoiser_needs_after
from ..options import GIVEN, option, parse
from .source import ModelSource

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Format:
    """A value of `--format`.

    Attributes:
        write: writes the model to the output, and returns lines to print.
        is_file: whether the output is a file rather than a folder.
        pads: whether what opens the output pads the borders as the model does.
    """

    write: Callable[[Adapter, Path, ExportOptions], list[str]]
    is_file: bool = False
    pads: bool = False


def _write_diffusers(model: Adapter, output: Path, options: ExportOptions) -> list[str]:
    variant = options.output_variant
    cls = save_diffusers_folder(model, output, DTYPES[options.dtype or "float32"], options.overwrite, variant)
    asked = "" if variant is None else f", variant={variant!r}"
    return [f"{output} holds diffusers' {cls.__name__}: {cls.__name__}.from_pretrained({str(output)!r}{asked})."]


def _write_single_file(model: Adapter, output: Path, options: ExportOptions) -> list[str]:
    dtype = DTYPES[options.dtype or "float32"]
    needs = denoiser_needs_after(options.record(), folded=options.scaling_factor is not None)
    note = " ".join(filter(None, (needs, how_to_pad(model.model)))) or None
    written = save_single_file(model, output, options.prefix or False, dtype, options.overwrite, note)
    layout = layout_of(written)
    lines = [f"{output} uses the names of {layout.code}. {how_diffusers_reads(written, output)}"]
    if foreign := foreign_to_other_tools(written):
        lines.append(f"{layout.tools} and cannot load this one: {', '.join(foreign)}.")
    return [*lines, *([] if needs is None else [needs])]


def _write_onnx(model: Adapter, output: Path, options: ExportOptions) -> list[str]:
    dtype, layout = DTYPES[options.dtype or "float32"], LAYOUTS[options.layout]
    differences = save_onnx(model, output, options.overwrite, layout=options.layout, dtype=dtype, opset=options.opset)
    measured = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
    return [
        f"{output} holds {layout.encoder} and {layout.decoder}, checked in onnxruntime at another batch size and image "
        "size.",
        f"Largest absolute differences from torch in float32 (limit: {TOLERANCES[dtype]:.0e} of the largest value): "
        f"{measured}.",
    ]


def _write_taesd(model: Adapter, output: Path, options: ExportOptions) -> list[str]:
    files = save_taesd(model, output, options.taesd_name, DTYPES[options.dtype or "float32"], options.overwrite)
    return [
        f"{output} holds {', '.join(files)}: put the .safetensors into models/vae_approx of ComfyUI, or the .pth into "
        "models/VAE-taesd of A1111."
    ]


def _write_remote_code(model: Adapter, output: Path, options: ExportOptions) -> list[str]:
    with fill_folder(output, options.overwrite) as staging:
        model.save(staging)
        module = write_remote_code(staging)
    return [
        f"{output} also loads without vae-plugin, by those who trust {module.name}: "
        f"diffusers.AutoModel.from_pretrained({str(output)!r}, trust_remote_code=True)."
    ]


FORMATS: dict[str, Format] = {
    "diffusers": Format(_write_diffusers),
    "single_file": Format(_write_single_file, is_file=True),
    "onnx": Format(_write_onnx, pads=True),
    "taesd": Format(_write_taesd),
    "remote_code": Format(_write_remote_code, pads=True),
}


ONNX = {"format": ("onnx",)}


@dataclass
class ExportOptions(ModelSource):
    """Options of `vae-plugin export`."""

    output: str = option(
        "",
        "Folder to write, or the .safetensors file of a single_file.",
        path=True,
        positional="output",
        required="no output given: name a folder after the model, or a .safetensors file for a single_file.",
    )
    format: str = option(
        "diffusers",
        "diffusers: a folder of AutoencoderKL or VQModel, which Core ML's converter takes too; single_file: a "
        ".safetensors for ComfyUI and A1111; onnx: encoder.onnx and decoder.onnx; taesd: the two files of TAESD, of an "
        "AutoencoderTiny or AutoencoderTinyFlux2; remote_code: our own class and a module for trust_remote_code.",
        choices=FORMATS,
    )
    prefix: str | None = option(
        None,
        "Prefix of every name in a single_file, as in a whole checkpoint: first_stage_model in those of Stable "
        "Diffusion, vae in those of FLUX and later models. By default there is none.",
        choices=PREFIXES,
        when={"format": ("single_file",)},
    )
    dtype: str | None = option(
        None,
        "Precision of the weights. By default float32.",
        choices=DTYPES,
        when={"format": ("diffusers", "single_file", "onnx", "taesd")},
    )
    layout: str = option(
        "plain",
        "Names of the ONNX files and of what they take and give: plain, encoder.onnx and decoder.onnx; or those of "
        "optimum, vae_encoder/model.onnx and vae_decoder/model.onnx.",
        choices=LAYOUTS,
        when=ONNX,
    )
    output_variant: str | None = option(
        None,
        "Word in the name of the weights, such as fp16, which from_pretrained(variant=...) asks for.",
        when={"format": ("diffusers",)},
    )
    scaling_factor: float | None = option(
        None,
        "Factor of the denoiser that the model is for, which tools such as ComfyUI multiply the latents by, as they "
        "read none beside the weights: the model's own statistics are folded into the weights, so that it is right.",
        at_least=1e-3,  # beyond, log-variances that models give reach the ends to which diffusers clamps them
        at_most=1e3,
        when={"format": ("diffusers", "single_file")},
    )
    shift_factor: float = option(
        0.0,
        "What such tools subtract from the latents before, if the denoiser has a shift.",
        when={"scaling_factor": GIVEN},
    )
    taesd_name: str | None = option(
        None,
        "Whose latents the files of TAESD decode; they are named after it.",
        choices=LATENTS,
        when={"format": ("taesd",)},
    )
    opset: int | None = option(
        None,
        f"Version of the ONNX operators, {OPSETS[0]} to {OPSETS[-1]}. By default the one that torch prefers.",
        at_least=OPSETS[0],
        below=OPSETS[-1] + 1,
        when=ONNX,
    )
    overwrite: bool = option(False, "Replace existing files of the same name.")


def run(argv: Sequence[str] | None, prog: str) -> Path:
    """Parse the options, load the model and write it; return the output path."""
    options = parse(ExportOptions, argv, prog=prog, description=__doc__)
    chosen, output = FORMATS[options.format], Path(options.output)
    # Checked before the model is downloaded and loaded.
    if chosen.is_file:
        check_file(output, SUFFIX, options.overwrite)
    else:
        check_folder(output, options.overwrite)
    _check_not_source(output, options)
    model, folded = options.open(), []
    if options.scaling_factor is not None:
        model, sentence = with_factors(model, options.scaling_factor, options.shift_factor)
        folded.append(sentence)
    for line in [*chosen.write(model, output, options), *folded]:
        print(line)
    if not chosen.pads and (needs := how_to_pad(model.model)) is not None:
        print(needs)
    return output


def _check_not_source(output: Path, options: ExportOptions) -> None:
    source = Path(options.pretrained_model_name_or_path)
    if not source.exists():
        return
    if os.path.realpath(output) in map(os.path.realpath, (source, source / (options.subfolder or ""))):
        raise UserError(f"{output} is the model itself, and an export would overwrite it: give another output.")
