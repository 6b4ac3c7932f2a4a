"""Write a model in the files of other tools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..autoencoders import Adapter
from ..errors import UserError
from ..export.diffusers_folder import save_diffusers_folder
from ..export.onnx_files import TOLERANCE, save_onnx
from ..export.place import check_file, check_folder, fill_folder
from ..export.remote_code import write_remote_code
from ..export.single_file import PREFIX, SUFFIX, foreign_to_other_tools, save_single_file
from ..options import option, parse
from .source import ModelSource

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Format:
    """What `--format` chooses.

    Attributes:
        write: writes the model to `--output` and gives what to tell the user.
        takes: the options that only some formats have.
        is_file: `--output` is a file rather than a folder.
    """

    write: Callable[[Adapter, Path, ExportOptions], list[str]]
    takes: tuple[str, ...] = ()
    is_file: bool = False


def _write_diffusers(model: Adapter, output: Path, options: ExportOptions) -> list[str]:
    cls = save_diffusers_folder(model, output, DTYPES[options.dtype or "float32"], options.overwrite)
    return [f"{output} holds diffusers' {cls.__name__}: {cls.__name__}.from_pretrained({str(output)!r})."]


def _write_single_file(model: Adapter, output: Path, options: ExportOptions) -> list[str]:
    dtype = DTYPES[options.dtype or "float32"]
    kl = save_single_file(model, output, options.prefix is not None, dtype, options.overwrite)
    lines = [
        f"{output} has the names of latent diffusion. In diffusers: AutoencoderKL.from_single_file({str(output)!r}, "
        "config=FOLDER), with the folder that --format diffusers writes."
    ]
    if foreign := foreign_to_other_tools(kl):
        lines.append(
            f"ComfyUI and A1111 build Stable Diffusion's architecture and cannot load this one: {', '.join(foreign)}."
        )
    return lines


def _write_onnx(model: Adapter, output: Path, options: ExportOptions) -> list[str]:
    differences = save_onnx(model, output, options.overwrite)
    measured = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
    return [
        f"{output} holds encoder.onnx and decoder.onnx, checked by onnxruntime at another batch and size.",
        f"Largest differences from torch (accepted: {TOLERANCE:.0e} of the largest value): {measured}.",
    ]


def _write_remote_code(model: Adapter, output: Path, options: ExportOptions) -> list[str]:
    with fill_folder(output, options.overwrite) as staging:
        model.save(staging)
        module = write_remote_code(staging)
    return [
        f"{output} opens without vae-plugin too, for those who trust {module.name}: "
        f"diffusers.AutoModel.from_pretrained({str(output)!r}, trust_remote_code=True)."
    ]


FORMATS: dict[str, Format] = {
    "diffusers": Format(_write_diffusers, takes=("dtype",)),
    "single_file": Format(_write_single_file, takes=("dtype", "prefix"), is_file=True),
    "onnx": Format(_write_onnx),
    "remote_code": Format(_write_remote_code),
}


@dataclass
class ExportOptions(ModelSource):
    """Options of `vae-plugin export`."""

    output: str = option(
        "",
        "Where to write: a folder, or the .safetensors of a single_file.",
        positional="output",
        required="no output given: name a folder after the model, or a .safetensors file for a single_file.",
    )
    format: str = option(
        "diffusers",
        "diffusers: a folder of AutoencoderKL or VQModel; single_file: a .safetensors for ComfyUI and A1111; onnx: "
        "encoder.onnx and decoder.onnx; remote_code: ours with a module for trust_remote_code.",
        choices=FORMATS,
    )
    prefix: str | None = option(
        None, "Begin the names of a single_file with this, as in a whole checkpoint. Default: none.", choices=(PREFIX,)
    )
    dtype: str | None = option(
        None, "Precision of the weights of diffusers and single_file. Default: float32.", choices=DTYPES
    )
    overwrite: bool = option(False, "Replace files of equal names that are there already.")

    def check(self) -> None:
        """Refuse what the format does not have.

        Raises:
            UserError: for the first option.
        """
        for name in ("dtype", "prefix"):
            takers = [key for key, value in FORMATS.items() if name in value.takes]
            if getattr(self, name) is not None and self.format not in takers:
                raise UserError(f"--{name} is for --format {' and '.join(takers)}, not {self.format}: leave it out.")


def run(argv: Sequence[str] | None, prog: str) -> Path:
    """Parse the options, open the model, write; the path is that of the file or folder."""
    options = parse(ExportOptions, argv, prog=prog, description=__doc__)
    chosen, output = FORMATS[options.format], Path(options.output)
    # Before the model is fetched and opened.
    if chosen.is_file:
        check_file(output, SUFFIX, options.overwrite)
    else:
        check_folder(output, options.overwrite)
    _check_not_source(output, options)
    for line in chosen.write(options.open(), output, options):
        print(line)
    return output


def _check_not_source(output: Path, options: ExportOptions) -> None:
    source = Path(options.pretrained_model_name_or_path)
    if not source.exists():
        return
    if output.resolve() in (source.resolve(), (source / (options.subfolder or "")).resolve()):
        raise UserError(f"{output} is the model itself, which an export would replace: give another --output.")
