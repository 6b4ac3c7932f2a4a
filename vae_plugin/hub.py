"""The model card that stands beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

from diffusers.models.modeling_utils import ModelMixin
from huggingface_hub import ModelCard, ModelCardData

from .autoencoders import Autoencoder, AutoencoderVQVAE
from .autoencoders.interface import OURS, compression

METRICS = {
    "psnr": ("PSNR of the reconstruction", "dB"),
    "ssim": ("SSIM of the reconstruction", ""),
    "elbo_nats": ("ELBO per image", "nats"),
    "log_likelihood_nats": ("importance-weighted bound on log p(x) per image", "nats"),
    "perceptual": ("perceptual distance of the reconstruction", ""),
    "psnr_to_teacher": ("PSNR of the decoded latents to what the teacher decodes", "dB"),
    "latent_mse": ("mean squared error of the encoded latents, of variance about 1", ""),
    "latents_mean": ("mean of the latents as pipelines have them", ""),
    "latents_std": ("standard deviation of these", ""),
    "bits_per_dim": ("ELBO per pixel and channel", "bits"),
    "kl_nats": ("KL of posterior and prior per image", "nats"),
    "active_units": ("active latent units", ""),
    "codebook_usage": ("share of codes that occur", ""),
    "codebook_perplexity": ("perplexity of the codes", ""),
    "dead_codes": ("codes that do not occur", ""),
    "codebook_tokens": ("tokens that these three are counted over", ""),
}

LATENTS_OF = {"AutoencoderTiny": ".latents", "VQModel": ".latents", "AutoencoderDC": ".latent"}


def model_card(
    model: ModelMixin,
    metrics: Mapping[str, Any],
    *,
    dataset: str,
    pictures: Mapping[str, str] | None = None,
    base_model: str | None = None,
    part: str = "all",
    teacher: str | None = None,
) -> ModelCard:
    """The card of a trained autoencoder, filled from what was measured; what was not is left out.

    Args:
        model: for its configuration and number of weights.
        metrics: the content of metrics.json.
        dataset: what it was trained on, in words.
        pictures: caption -> path relative to the card.
        base_model: what it was fine-tuned from, a Hub id or words.
        part: what of it was trained.
        teacher: whose latents it has learnt.
    """
    config = model.config
    sections = {
        "dataset": dataset,
        "pictures": dict(pictures or {}),
        "results": [
            {"name": name, "unit": unit, "value": _written(metrics[key])}
            for key, (name, unit) in METRICS.items()
            if key in metrics
        ],
        "num_images": metrics.get("num_images"),
        "steps": metrics.get("steps"),
        "in_channels": config.in_channels,
        "sample_size": config.get("sample_size", 256),
        "latent_channels": config.latent_channels,
        "factor": compression(model),
        "num_parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "base_model": base_model,
        "part": part,
        "teacher": teacher,
    }
    if not isinstance(model, OURS) or getattr(model, "saved_as", None) is not None:
        name = getattr(model, "saved_as", type(model)).__name__
        sections |= {"class_name": name, "latents_of": LATENTS_OF.get(name, ".latent_dist.mode()")}
        return _card("autoencoder", sections, ["autoencoder"], "diffusers")
    sections |= {
        "network": config.get("network", "conv"),
        "likelihood": config.likelihood,
        "scaling_factor": config.scaling_factor,
        "shift_factor": config.shift_factor,
        "standardized": config.scaling_factor == 1 and config.shift_factor == 0 and _each_channel_alone(model),
    }
    kind = "vqvae" if isinstance(model, AutoencoderVQVAE) else "vae"
    if kind == "vqvae":
        sections |= {
            "codebook_size": model.codebook_size,
            "code_dim": model.quantizer.code_dim,
            "codes_per_place": model.quantizer.codes_per_place,
            "quantizer": type(model.quantizer).__name__,
        }
    return _card(kind, sections, [kind, "autoencoder", "diffusers"], "vae-plugin")


def _card(kind: str, sections: Mapping[str, Any], tags: list[str], library: str) -> ModelCard:
    data = ModelCardData(library_name=library, tags=[*tags, "vae-plugin"])
    with resources.as_file(resources.files("vae_plugin.hub_cards") / f"{kind}.md") as template:
        return ModelCard.from_template(data, template_path=str(template), **sections)


def _written(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _each_channel_alone(model: Autoencoder) -> bool:
    """Whether standardised latents are so in every channel: codes in their own space allow one scale for all."""
    return not isinstance(model, AutoencoderVQVAE) or model.quantizer.projects
