"""Export of encoder and decoder to ONNX files, checked against torch before they are kept."""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from ..autoencoders import Adapter, adapt
from ..errors import UserError
from .diffusers_folder import in_precision
from .place import fill_folder

TRACED = (
    2,
    4,
    6,
)  # batch size, height and width of the latents: all different and none 1, so that none is taken for a constant
CHECKED = (3, 5, 3)
TOLERANCE = 1e-4  # of the largest value of an output; two float32 implementations of Stable Diffusion's differ by 2e-5
ONE_FILE_BYTES = 1_900_000_000  # larger weights go to a file of their own, because a protobuf ends at 2 GiB


def save_onnx(model: Adapter | ModelMixin, folder: Path, overwrite: bool = False) -> dict[str, float]:
    """Write encoder.onnx and decoder.onnx in float32, for any batch size, height and width.

    The encoder takes `image` (B, C, H, W) in [-1, 1]. Its outputs are

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

    Both files are run in onnxruntime with a batch size and image size other than those of the trace, and compared with
    torch.

    Args:
        model: an autoencoder; it is not changed.
        folder: folder to write.
        overwrite: replace existing files of the same name; other files stay.

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
    adapter = copy.deepcopy(adapter)
    adapter.model = in_precision(adapter.model, torch.float32).eval()
    if hasattr(adapter.model, "disable_tiling"):
        adapter.model.disable_tiling()
        adapter.model.disable_slicing()
    with fill_folder(folder, overwrite) as staging, torch.no_grad():
        encoder, decoder = Encoder(adapter), Decoder(adapter.model)
        images, z = _inputs(adapter, encoder, TRACED)
        ratio, metadata = adapter.spatial_compression_ratio, _metadata(adapter)
        _write(encoder, {"image": images}, adapter.onnx_outputs, ratio, staging / "encoder.onnx", metadata)
        _write(decoder, {"latents": z}, ("image",), 1, staging / "decoder.onnx", metadata)
        images, z = _inputs(adapter, encoder, CHECKED)
        expected = dict(zip(adapter.onnx_outputs, encoder(images), strict=True))
        return {
            **_compare(staging / "encoder.onnx", images, expected),
            **_compare(staging / "decoder.onnx", z, {"image": decoder(z)}),
        }


class Encoder(nn.Module):
    """Map images to the tensors that the adapter names in `onnx_outputs`."""

    def __init__(self, adapter: Adapter) -> None:
        super().__init__()
        self.model, self.adapter = adapter.model, adapter

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.adapter.onnx_encode(image)


class Decoder(nn.Module):
    """Map latents to images."""

    def __init__(self, model: ModelMixin) -> None:
        super().__init__()
        self.model = model

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.model.decode(latents).sample


def _inputs(adapter: Adapter, encoder: Encoder, size: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise in place of images, and its latents to decode."""
    batch, height, width = size
    ratio = adapter.spatial_compression_ratio
    shape = (batch, adapter.in_channels, height * ratio, width * ratio)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return images, adapter.onnx_latents(encoder(images))


def _metadata(adapter: Adapter) -> dict[str, str]:
    config = adapter.config
    known = {name: config.get(name) for name in ("scaling_factor", "shift_factor", "latents_mean", "latents_std")}
    return {
        "class": type(adapter.model).__name__,
        "spatial_compression_ratio": str(adapter.spatial_compression_ratio),
        **{name: json.dumps(value) for name, value in known.items() if value is not None},
    }


def _write(
    module: nn.Module,
    inputs: dict[str, torch.Tensor],
    outputs: tuple[str, ...],
    ratio: int,
    file: Path,
    metadata: dict[str, str],
) -> None:
    """Trace a module and write it; height and width are `ratio` times any number."""
    ((name, example),) = inputs.items()
    dims = [ratio * torch.export.Dim(side) if ratio > 1 else torch.export.Dim(side) for side in ("height", "width")]
    dynamic = {name: {0: torch.export.Dim("batch"), 2: dims[0], 3: dims[1]}}
    try:
        with _quiet():
            program = torch.onnx.export(
                module.eval(),
                (example,),
                dynamo=True,
                input_names=[name],
                output_names=list(outputs),
                dynamic_shapes=dynamic,
                # onnxscript's optimizer rounds the 1e-15 that AutoencoderDC adds to a divisor to 0, which gives 0 / 0.
                # Runtimes optimise anyway.
                optimize=False,
                verbose=False,
            )
    except Exception as error:  # each stage of the exporter raises its own class
        reason = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"torch cannot export the {file.stem} of this {metadata['class']}: {reason[0]}") from error
    assert program is not None  # as always with dynamo=True
    for node in program.model.graph:
        node.metadata_props.clear()  # stack traces: local paths, and most of a small file
    program.model.metadata_props.update(metadata)
    size = sum(tensor.nbytes for tensor in module.state_dict().values())
    program.save(file, external_data=size > ONE_FILE_BYTES)


def _compare(file: Path, value: torch.Tensor, expected: dict[str, torch.Tensor]) -> dict[str, float]:
    """Compare the outputs of onnxruntime with those of torch, see `save_onnx`.

    Raises:
        UserError: if an output differs by more than `TOLERANCE`.
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
            accepted = TOLERANCE * max(1.0, reference.abs().max().item())
        else:
            difference, accepted = (result != reference).float().mean().item(), 0.02
        if not difference <= accepted:  # also true for NaN
            raise UserError(
                f"{name} of {file.name} differs from torch by {difference:.2g}, more than {accepted:.2g}: "
                "nothing was written; try another version of onnxscript or onnxruntime."
            )
        differences[f"{file.stem}.{name}"] = difference
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
