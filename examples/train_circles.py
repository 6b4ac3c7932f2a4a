"""Train the model that `LatentLab()` opens by default: python examples/train_circles.py --output_dir OUT.

A VAE of coloured circles whose latents are x, y, radius and, on two of them as it is periodic, the hue. It takes about
three minutes on two CPU cores. `config.json` and `diffusion_pytorch_model.safetensors` of OUT are the files in
widgets/circles/.

`circles-colours.yaml` finds the latents, in images of 16 pixels. They are put in the order of the factors and named by
them; then the model learns images of 32 pixels, with lighter weights of the KL, which make the discs sharper.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from vae_plugin.autoencoders import AutoencoderVAE
from vae_plugin.datasets import Circles
from vae_plugin.errors import UserError, exit_status
from vae_plugin.finetune import options as finetune_options
from vae_plugin.finetune import train
from vae_plugin.metrics.disentanglement import information, leading_latents
from vae_plugin.options import option, parse
from vae_plugin.training.settings import FinetuneOptions

CONFIG = Path(__file__).parent / "circles-colours.yaml"
NAMES = ("x", "y", "radius", "hue 1", "hue 2")
ENLARGED = 2


@dataclass
class TrainingOptions:
    """Options of this script."""

    output_dir: str = option("out-lab", "Folder for the result.")
    first_steps: int = option(2200, "Steps in which the latents are found.")
    train_steps: int = option(3000, "Steps after that, with images of twice the size.")
    seed: int = option(2, "Seed of every random number.")


@torch.no_grad()
def in_order(model: AutoencoderVAE) -> AutoencoderVAE:
    """Put the latents in the order of `NAMES`, each growing with its factor, by exact changes of two weights.

    Raises:
        UserError: if two factors share the latent that tells most of them.
    """
    circles = Circles(4000, model.config.sample_size, 3, seed=10**6, hue=True)
    means = model.posterior(circles.render(circles.factors)).mean.flatten(1)
    shares = information(means, circles.factors).normalised[:, :3]
    order = leading_latents(shares)
    if shares.argmax(0).tolist() != order:
        raise UserError("x, y and radius do not have a latent each: give another --seed.")
    order += [i for i in range(len(NAMES)) if i not in order]
    grows = torch.corrcoef(torch.cat([means[:, order[:3]], circles.factors[:, :3]], 1).T)[:3, 3:].diagonal()
    signs = torch.cat([grows.sign(), torch.ones(len(NAMES) - 3)])
    last, first = model.encoder.layers[-1], model.decoder.layers[0]
    for values in (last.weight, last.bias):
        mean, logvar = values.chunk(2)
        mean = mean[order] * signs.view(-1, *[1] * (values.ndim - 1))
        values.copy_(torch.cat([mean, logvar[order]]))
    first.weight.copy_(first.weight[:, order] * signs)
    model.register_to_config(_latent_names=list(NAMES))
    return model


@torch.no_grad()
def enlarged(model: AutoencoderVAE) -> AutoencoderVAE:
    """The model of larger images: it encodes their averages over squares of pixels, and fills such squares."""
    side = model.config.sample_size
    new = AutoencoderVAE.from_config({**model.config, "sample_size": ENLARGED * side})
    state = model.state_dict()

    def squares(weight: torch.Tensor) -> torch.Tensor:
        """From (outputs or 1 of a bias, pixels) to more pixels."""
        image = weight.unflatten(1, (3, side, side))
        return image.repeat_interleave(ENLARGED, 2).repeat_interleave(ENLARGED, 3).flatten(1)

    first, last = "encoder.layers.0.weight", f"decoder.layers.{len(model.decoder.layers) - 1}"
    state[first] = squares(state[first]) / ENLARGED**2
    state[f"{last}.weight"] = squares(state[f"{last}.weight"].T).T
    state[f"{last}.bias"] = squares(state[f"{last}.bias"][None])[0]
    new.load_state_dict(state)
    return new


def run(options: TrainingOptions) -> None:
    """Find the latents, put them in order, go on with larger images, and write the result in half precision."""
    with tempfile.TemporaryDirectory() as folder:
        first, begin, whole = (Path(folder) / name for name in ("first", "begin", "whole"))
        steps = {"max_train_steps": options.first_steps, "output_dir": str(first), "seed": options.seed}
        train(parse(FinetuneOptions, ["--config", str(CONFIG), *(f"--{k}={v}" for k, v in steps.items())]))
        enlarged(in_order(AutoencoderVAE.from_pretrained(first))).save_pretrained(begin)
        train(
            finetune_options(
                pretrained_model_name_or_path=str(begin),
                dataset_name="circles",
                circles_hue=True,
                circles_length=20_000,
                beta=0.5,
                tc_weight=10,
                train_batch_size=128,
                max_train_steps=options.train_steps,
                learning_rate=2e-3,
                lr_scheduler="cosine",
                lr_warmup_steps=min(50, options.train_steps // 4),
                seed=options.seed,
                output_dir=str(whole),
            )
        )
        model = AutoencoderVAE.from_pretrained(whole)
        model.register_to_config(_name_or_path="circles")
        model.half().save_pretrained(options.output_dir)
        shutil.copy(whole / "metrics.json", options.output_dir)
        shutil.copytree(whole / "samples", Path(options.output_dir) / "samples", dirs_exist_ok=True)
    print(f"The model, metrics.json and samples are in {options.output_dir}/")


def main() -> int:
    """Run from the command line."""
    prog, description = "python examples/train_circles.py", "Train the model that LatentLab() opens by default."
    return exit_status(lambda: run(parse(TrainingOptions, prog=prog, description=description)))


if __name__ == "__main__":
    sys.exit(main())
