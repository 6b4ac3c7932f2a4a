"""Export of encoder and decoder to ONNX files, checked against torch before they are kept."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from ..autoencoders import Adapter, adapt
from ..errors import UserError
from ..files import json_text
from .diffusers_folder import in_precision
from .place import fill_folder

TRACED = (
    2,
    4,
    6,
)  # batch size, height and width of the latents: all different and none 1, so that none is taken for a constant
CHECKED = (3, 5, 3)
# Of the largest value of an output: two float32 implementations of Stable Diffusion's differ by 2e-5, and a float16 one
# rounds each of its many layers to 5e-4.
TOLERANCES = {torch.float32: 1e-4, torch.float16: 5e-2}
INDICES_TOLERANCES = {torch.float32: 0.02, torch.float16: 0.2}  # share of indices
OPSETS = range(18, 24)  # what torch writes, and what onnxscript converts it to
ONE_FILE_BYTES = 1_900_000_000  # larger weights go to a file of their own, because a protobuf ends at 2 GiB


@dataclass(frozen=True)
class Layout:
    """The names of files, inputs and outputs.

    Attributes:
        encoder, decoder: the files.
        image, latents: the input of each.
        reconstruction: the output of the decoder.
        names: other names of what the encoder gives; "mean" and "logvar" are one tensor where they have one name.
        has_config: whether a config.json stands beside each file.
    """

    encoder: str = "encoder.onnx"
    decoder: str = "decoder.onnx"
    image: str = "image"
    latents: str = "latents"
    reconstruction: str = "image"
    names: Mapping[tuple[str, ...], tuple[str, ...]] = field(default_factory=dict)
    has_config: bool = False


LAYOUTS = {
    "plain": Layout(),
    # That of optimum's exporter and of its ORTVaeEncoder and ORTVaeDecoder, which Triton and MIGraphX users follow.
    "optimum": Layout(
        encoder="vae_encoder/model.onnx",
        decoder="vae_decoder/model.onnx",
        image="sample",
        latents="latent_sample",
        reconstruction="sample",
        names={
            ("mean", "logvar"): ("latent_parameters",),
            ("latents",): ("latent_sample",),
            ("latents", "indices"): ("latent_sample",),
        },
        has_config=True,
    ),
}


def save_onnx(
    model: Adapter | ModelMixin,
    folder: Path,
    overwrite: bool = False,
    *,
    layout: str = "plain",
    dtype: torch.dtype = torch.float32,
    opset: int | None = None,
) -> dict[str, float]:
    """Write encoder and decoder as ONNX files for any batch size, height and width (of an mlp, for its own image size).

    In the layout "plain" these are encoder.onnx and decoder.onnx. The encoder takes `image` (B, C, H, W) in [-1, 1].
    Its outputs are

    - for a Gaussian autoencoder, `mean` and `logvar` of the posterior, each (B, c, H/f, W/f):
      z = mean + exp(logvar / 2) * noise;
    - for a deterministic one, `latents`;
    - for a discrete one, `latents` before quantisation and `indices` of the nearest codes, int64, (B, h, w), or
      (B, h, w, stages) for a residual quantiser.

    H and W must be multiples of the spatial compression ratio f, which both files have in their metadata: pad the
    image, and crop the reconstruction. The decoder takes unscaled `latents` and returns `image`. The decoder of a
    discrete model quantises first, so that it accepts the output of its encoder; it holds the distances of all
    positions to all codes in memory at once. `scaling_factor` and `shift_factor` are in the metadata too, and neither
    file applies them.

    In the layout "optimum" the files are vae_encoder/model.onnx and vae_decoder/model.onnx, each with the config.json
    of the model beside it. The encoder maps `sample` to `latent_parameters` (B, 2 c, H/f, W/f), the mean and
    log-variance of a Gaussian posterior, or to the `latent_sample` of any other autoencoder; the decoder maps
    `latent_sample` to `sample`.

    Both files are run in onnxruntime with a batch size and image size other than those of the trace, and compared with
    torch.

    Args:
        model: an autoencoder; it is not changed.
        folder: folder to write.
        overwrite: replace existing files of the same name; other files stay.
        layout: of `LAYOUTS`.
        dtype: of weights, inputs and outputs: float32 or float16. A quantiser stays in float32.
        opset: version of the ONNX operators, of `OPSETS`. By default the one that torch prefers.

    Returns:
        The largest absolute difference from torch for each output, `{"encoder.mean": …, "decoder.image": …}`; for
        `indices` the share of indices that differ, which a tie between two codes can cause.

    Raises:
        UserError: if the model cannot be exported, a package is missing, or the check fails; no file is written then.
    """
    adapter = adapt(model)
    if adapter.onnx_refusal is not None:
        raise UserError(f"{adapter.class_name} cannot be exported to ONNX: {adapter.onnx_refusal}.")
    if not hasattr(torch.compiler, "is_exporting"):
        raise UserError(f"torch {torch.__version__} is too old for ONNX files: pip install 'torch>=2.7'.")
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]
    if missing:
        raise UserError(f"ONNX files need {', '.join(missing)}: pip install 'vae-plugin[onnx]'.")
    if dtype not in TOLERANCES or (opset is not None and opset not in OPSETS):
        raise UserError(
            f"ONNX files of {dtype} with opset {opset} cannot be written: give float32 or float16, and an opset from "
            f"{OPSETS[0]} to {OPSETS[-1]}."
        )
    exact = copy.deepcopy(adapter)
    exact.model = in_precision(exact.model, torch.float32).eval()
    if hasattr(exact.model, "disable_tiling"):
        exact.model.disable_tiling()
        exact.model.disable_slicing()
    cast = exact if dtype == torch.float32 else copy.deepcopy(exact)
    cast.model = in_precision(cast.model, dtype)
    names, metadata = LAYOUTS[layout], _metadata(exact)
    with fill_folder(folder, overwrite) as staging, torch.no_grad():
        encoder, decoder = Encoder(cast, names), Decoder(cast.model)
        writer = _Writer(staging, metadata, opset)
        images, z = (value.to(dtype) for value in _inputs(exact, TRACED))
        ratio = exact.spatial_compression_ratio if exact.only_image_size is None else None
        writer.write(encoder, names.encoder, {names.image: images}, encoder.outputs, ratio)
        writer.write(decoder, names.decoder, {names.latents: z}, (names.reconstruction,), ratio and 1)
        if names.has_config:
            for part in (names.encoder, names.decoder):
                exact.to_saved().save_config((staging / part).parent)
        images, z = _inputs(exact, CHECKED)
        encoder, decoder = Encoder(exact, names), Decoder(exact.model)
        expected = dict(zip(encoder.outputs, encoder(images), strict=True))
        encoded = _compare(staging / names.encoder, images.to(dtype), expected)
        decoded = _compare(staging / names.decoder, z.to(dtype), {names.reconstruction: decoder(z)})
        differences = {"encoder": encoded, "decoder": decoded}
        return {f"{part}.{name}": value for part, found in differences.items() for name, value in found.items()}


class Encoder(nn.Module):
    """Map images to the tensors that the adapter names in `onnx_outputs`, in the form that a layout has them."""

    def __init__(self, adapter: Adapter, layout: Layout) -> None:
        super().__init__()
        self.model, self.adapter = adapter.model, adapter
        self.outputs = layout.names.get(adapter.onnx_outputs, adapter.onnx_outputs)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        encoded = self.adapter.onnx_encode(image)
        if self.adapter.gaussian and len(self.outputs) == 1:
            return (torch.cat(encoded, dim=1),)
        return encoded[: len(self.outputs)]


class Decoder(nn.Module):
    """Map latents to images."""

    def __init__(self, model: ModelMixin) -> None:
        super().__init__()
        self.model = model

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.model.decode(latents).sample


def _inputs(adapter: Adapter, size: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise in place of images, and its latents to decode."""
    batch, *positions = size
    sides = adapter.only_image_size or [side * adapter.spatial_compression_ratio for side in positions]
    shape = (batch, adapter.in_channels, *sides)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return images, adapter.onnx_latents(adapter.onnx_encode(images))


def _metadata(adapter: Adapter) -> dict[str, str]:
    config = adapter.config
    known = {name: config.get(name) for name in ("scaling_factor", "shift_factor", "latents_mean", "latents_std")}
    return {
        "class": adapter.class_name,
        "spatial_compression_ratio": str(adapter.spatial_compression_ratio),
        **{name: json_text(value, name) for name, value in known.items() if value is not None},
    }


@dataclass(frozen=True)
class _Writer:
    """Traces modules and writes them into a folder, with the same metadata and version of the operators."""

    folder: Path
    metadata: dict[str, str]
    opset: int | None

    def write(
        self, module: nn.Module, part: str, inputs: dict[str, torch.Tensor], outputs: tuple[str, ...], ratio: int | None
    ) -> None:
        """Write one file; height and width of its input are `ratio` times any number, or for None those of `inputs`."""
        from .onnx_operators import OPERATORS  # needs onnxscript, of the extra "onnx"

        ((name, example),) = inputs.items()
        dims: dict[int, Any] = {0: torch.export.Dim("batch")}
        if ratio is not None:
            sides = (torch.export.Dim(side) for side in ("height", "width"))
            dims |= {axis: ratio * side if ratio > 1 else side for axis, side in zip((2, 3), sides, strict=True)}
        model = f"the {type(module).__name__.lower()} of this {self.metadata['class']}"
        try:
            with _quiet():
                program = torch.onnx.export(
                    module.eval(),
                    (example,),
                    dynamo=True,
                    input_names=[name],
                    output_names=list(outputs),
                    dynamic_shapes=(dims,),
                    opset_version=self.opset,
                    custom_translation_table=OPERATORS,
                    # onnxscript's optimizer rounds the 1e-15 that AutoencoderDC adds to a divisor to 0, which gives
                    # 0 / 0. Runtimes optimise anyway.
                    optimize=False,
                    verbose=False,
                )
        except Exception as error:  # each stage of the exporter raises its own class
            reason = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
            raise UserError(f"torch cannot export {model}: {reason[0]}") from error
        assert program is not None  # as always with dynamo=True
        written = program.model.opset_imports[""]
        if self.opset not in (None, written):
            raise UserError(
                f"{model} cannot be written with opset {self.opset}, only with {written}: leave --opset out."
            )
        own = {value: value.name for value in (*program.model.graph.inputs, *program.model.graph.outputs)}
        for node in program.model.graph:
            node.metadata_props.clear()  # stack traces: local paths, and most of a small file
            for value in node.outputs:  # named after operators, one of which is the mean
                if value not in own and value.name in own.values():
                    value.name = f"{value.name}_of_{node.name}"
        program.model.metadata_props.update(self.metadata)
        size = sum(tensor.nbytes for tensor in module.state_dict().values())
        (self.folder / part).parent.mkdir(exist_ok=True)
        program.save(self.folder / part, external_data=size > ONE_FILE_BYTES)


def _compare(file: Path, value: torch.Tensor, expected: dict[str, torch.Tensor]) -> dict[str, float]:
    """Compare the outputs of onnxruntime with those of torch, see `save_onnx`.

    Raises:
        UserError: if an output differs by more than `TOLERANCES`.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    results = session.run(list(expected), {session.get_inputs()[0].name: value.numpy()})
    differences = {}
    for (name, reference), result in zip(expected.items(), map(torch.from_numpy, results), strict=True):
        if result.shape != reference.shape:
            raise UserError(
                f"{name} of {file.name} is of shape {tuple(result.shape)}, in torch {tuple(reference.shape)}: "
                "nothing was written; try another version of onnxscript."
            )
        if reference.is_floating_point():
            difference = (result - reference).abs().max().item()
            accepted = TOLERANCES[value.dtype] * max(1.0, reference.abs().max().item())
        else:
            difference, accepted = (result != reference).float().mean().item(), INDICES_TOLERANCES[value.dtype]
        if not difference <= accepted:  # also true for NaN
            raise UserError(
                f"{name} of {file.name} differs from torch by {difference:.2g}, more than {accepted:.2g}: "
                "nothing was written; try another version of onnxscript or onnxruntime."
            )
        differences[name] = difference
    return differences


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's messages about itself: missing torchvision, deprecations in torch."""
    logger: Any = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
