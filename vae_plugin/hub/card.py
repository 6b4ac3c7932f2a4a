"""The model card that stands beside the weights: filled from what was measured, silent about what was not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import resources
from typing import Any
from urllib.parse import quote

import jinja2
from diffusers.models.modeling_utils import ModelMixin
from huggingface_hub import EvalResult, ModelCard, ModelCardData, constants

from ..autoencoders import Adapter, adapt
from ..autoencoders.base import height_and_width
from .record import RunRecord
from .text import escaped, fenced, in_code

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
    "codebook_positions": ("positions that these three are counted over", ""),
}
RENAMED = {"codebook_tokens": "codebook_positions"}  # in the metrics.json of 0.1
TASK = "image-to-image"  # the Hub has none for autoencoders; this is where the known ones stand


def model_card(
    model: Adapter | ModelMixin,
    metrics: Mapping[str, Any],
    record: RunRecord | None = None,
    *,
    repo_id: str | None = None,
    files: Mapping[str, str] | None = None,
    remote_code: str | None = None,
) -> ModelCard:
    """The card of an autoencoder.

    Args:
        model: any image autoencoder, or its adapter; for its configuration and number of weights.
        metrics: the content of metrics.json, where every number of the card comes from.
        record: of the run; without it the card tells of the model only.
        repo_id: where it is published.
        files: name -> SHA-256 of the weights.
        remote_code: module beside the weights for those who load without the plugin.
    """
    record = record or RunRecord()
    metrics = {RENAMED.get(name, name): value for name, value in metrics.items()}
    adapter = adapt(model)
    config, name, ours = adapter.config, adapter.class_name, adapter.remote_code
    height, width = height_and_width(config.sample_size if ours else record.resolution or adapter.natural_resolution)
    results = _results(metrics)
    sections = {
        "repo_id": repo_id,
        "source": repo_id or "PATH-OR-HUB-ID",
        "pictures": {caption: quote(path) for caption, path in record.pictures.items()},
        "results": results,
        "has_base": any(result["base"] for result in results),
        "gain": _gain(metrics),
        "num_images": metrics.get("num_images"),
        "split": record.split,
        "resolution": record.resolution,
        "base_model": record.base_model,
        "origin": _origin(record, metrics),
        "what_was_trained": _what_was_trained(record),
        "limits": _limits(metrics, record),
        "training": _training(metrics, record),
        "command": None if record.command is None else fenced(record.command, "bash"),
        "files": dict(files or {}),
        "in_channels": config.in_channels,
        "height": height,
        "width": width,
        "latent_channels": config.latent_channels,
        "factor": adapter.spatial_compression_ratio,
        "num_parameters": f"{sum(p.numel() for p in adapter.model.parameters()):,}",
        "remote_code": remote_code,
    }
    if not ours:
        sections |= {
            "class_name": name,
            "article": "An" if name[0] in "AEIOU" else "A",
            "latents_of": adapter.latents_expression,
            "rule": _pipeline_rule(config),
            "same_latents": record.part == "decoder",
        }
        return _card("autoencoder", sections, _metadata(adapter, metrics, record, repo_id, "diffusers", []))
    standard = config.scaling_factor == 1 and config.shift_factor == 0
    sections |= {
        "network": config.get("network", "conv"),
        "likelihood": config.likelihood,
        "scaling_factor": config.scaling_factor,
        "shift_factor": config.shift_factor,
        # Of weights of which nobody has said that they were trained, nothing is claimed.
        "standardized": None if record.dataset is None else standard and adapter.standardizes_channels,
    }
    if adapter.discrete:
        quantizer = adapter.model.quantizer
        sections |= {
            "codebook_size": quantizer.codebook_size,
            "code_dim": quantizer.code_dim,
            "codes_per_position": quantizer.codes_per_position,
            "quantizer": type(quantizer).__name__,
        }
    tags = ["vq-vae" if adapter.discrete else "vae", "diffusers"]
    return _card(adapter.kind, sections, _metadata(adapter, metrics, record, repo_id, "vae-plugin", tags))


def _card(kind: str, sections: Mapping[str, Any], data: ModelCardData) -> ModelCard:
    folder = resources.files("vae_plugin.hub_cards")
    loader = jinja2.FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8"))
    # Markdown, not HTML: what comes from users is escaped by the filter.
    environment = jinja2.Environment(loader=loader, keep_trailing_newline=True, undefined=jinja2.StrictUndefined)
    environment.filters["text"] = escaped
    return ModelCard(environment.get_template(f"{kind}.md").render(card_data=data.to_yaml(), **sections))


def _metadata(
    adapter: Adapter,
    metrics: Mapping[str, Any],
    record: RunRecord,
    repo_id: str | None,
    library: str,
    tags: list[str],
) -> ModelCardData:
    factor, channels = adapter.spatial_compression_ratio, adapter.latent_channels
    tags = [*tags, "autoencoder", f"f{factor}", f"c{channels}", *(["fine-tuned"] if record.base_model else [])]
    values = {
        "license": record.license,
        "license_name": record.license_name,
        "license_link": record.license_link,
        "base_model": record.base_model_id,
        "base_model_relation": "finetune" if record.base_model_id else None,
        "datasets": [record.dataset_id] if record.dataset_id else None,
        "thumbnail": _thumbnail(record, repo_id),
    }
    data = ModelCardData(library_name=library, pipeline_tag=TASK, tags=[*tags, "vae-plugin"], inference=False)
    for name, value in values.items():
        if value is not None:
            data[name] = value
    measured = {key: metrics[key] for key in METRICS if _is_number(metrics.get(key))}
    if measured and record.dataset is not None:
        data["model_name"] = f"{adapter.class_name} f{factor} c{channels}"
        data["metrics"] = [key for key in ("psnr", "ssim") if key in measured] or None
        size = {"resolution": record.resolution, "num_images": metrics.get("num_images")}
        data["eval_results"] = [
            EvalResult(
                task_type=TASK,
                task_name="Reconstruction",
                dataset_type=record.dataset_id or "images",
                dataset_name=record.dataset,
                dataset_split=record.split,
                dataset_args={k: v for k, v in size.items() if v is not None} or None,
                metric_type=key,
                metric_name=METRICS[key][0] + (f" ({METRICS[key][1]})" if METRICS[key][1] else ""),
                metric_value=value,
            )
            for key, value in measured.items()
        ]
    return data


def _thumbnail(record: RunRecord, repo_id: str | None) -> str | None:
    """The address of the first picture, which is what the Hub takes."""
    picture = next(iter(record.pictures.values()), None)
    if picture is None or repo_id is None:
        return None
    return f"{constants.ENDPOINT}/{repo_id}/resolve/main/{quote(picture)}"


def _results(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    rows = []
    for key, (name, unit) in METRICS.items():
        if not _is_number(metrics.get(key)):
            continue
        spread = f" ± {_written(metrics['psnr_std'])}" if key == "psnr" and "psnr_std" in metrics else ""
        unit = f" {unit}" if unit else ""
        base = metrics.get(f"base_{key}")
        rows.append(
            {
                "name": name + (", ± standard deviation over images" if spread else ""),
                "value": _written(metrics[key]) + spread + unit,
                "base": _written(base) + unit if _is_number(base) else "",
            }
        )
    return rows


def _gain(metrics: Mapping[str, Any]) -> str | None:
    gain, half = metrics.get("psnr_gain"), metrics.get("psnr_gain_ci95")
    if not _is_number(gain):
        return None
    interval = f" (95 % confidence interval {gain - half:+.3g} to {gain + half:+.3g})" if _is_number(half) else ""
    return f"{gain:+.3g} dB of PSNR{interval}"


def _origin(record: RunRecord, metrics: Mapping[str, Any]) -> str:
    words = f" fine-tuned from {_linked(record)}" if record.base_model else ""
    if record.dataset:
        words += f" on {escaped(record.dataset)}" if words else f" trained on {escaped(record.dataset)}"
    steps = metrics.get("steps")
    return words + (f" for {steps:,} steps" if words and _is_number(steps) else "")


def _linked(record: RunRecord) -> str:
    if record.base_model_id is None:
        return escaped(record.base_model)
    pinned = f" (commit {in_code(record.base_revision)})" if record.base_revision else ""
    return f"[{escaped(record.base_model_id)}](https://huggingface.co/{quote(record.base_model_id)}){pinned}"


def _what_was_trained(record: RunRecord) -> str:
    words = ""
    if record.part == "decoder" and record.base_model:
        words = (
            " Only the decoder was trained: the latents are those of the model it came from, and a denoiser made for"
            " these works with it."
        )
    elif record.part == "encoder":
        words = " Only the encoder was trained."
    if record.teacher:
        words += (
            f" It was trained to decode and encode the latents of {escaped(record.teacher)} as a pipeline has them"
            " (shifted and scaled)."
        )
    return words


def _limits(metrics: Mapping[str, Any], record: RunRecord) -> list[str]:
    """What was measured that speaks against the model."""
    limits = []
    if all(_is_number(metrics.get(key)) for key in ("psnr_worst", "psnr_median", "psnr_best")):
        worst, median, best = (_written(metrics[f"psnr_{key}"]) for key in ("worst", "median", "best"))
        limits.append(
            f"The worst of the {metrics.get('num_images')} reconstructions has {worst} dB of PSNR (median {median}, "
            f"best {best})" + (": they are in the picture of extremes." if _shows_extremes(record) else ".")
        )
    dead = metrics.get("dead_codes")
    if dead:
        limits.append(f"{dead:,} codes did not occur in the {metrics['codebook_positions']:,} positions counted.")
    if record.resolution:
        limits.append(f"It was trained and measured at {record.resolution} x {record.resolution} pixels only.")
    return limits


def _shows_extremes(record: RunRecord) -> bool:
    return any(path.endswith("extremes.png") for path in record.pictures.values())


def _training(metrics: Mapping[str, Any], record: RunRecord) -> dict[str, str]:
    rows = {"images": f"{record.train_images:,}"} if record.train_images else {}
    rows |= {f"--{name}": in_code(value) for name, value in record.options.items()}
    if record.num_processes and record.device:
        rows["processes"] = f"{record.num_processes} ({escaped(record.device)})"
    if record.mixed_precision:
        rows["precision"] = escaped(record.mixed_precision)
    if record.seconds:
        rows["time"] = f"{record.seconds:,.0f} s"
    if _is_number(metrics.get("images_per_second")):
        rows["images per second"] = _written(metrics["images_per_second"])
    if record.versions:
        rows["versions"] = ", ".join(f"{escaped(name)} {escaped(v)}" for name, v in record.versions.items())
    if record.commit:
        rows["commit of vae-plugin"] = in_code(record.commit)
    return rows


def _pipeline_rule(config: Mapping[str, Any]) -> str | None:
    """How a pipeline scales latents, from the config's own fields."""
    scale, shift = config.get("scaling_factor"), config.get("shift_factor")
    if config.get("latents_mean") is not None or scale is None:
        return None
    return f"(z - {shift}) * {scale}" if shift else f"z * {scale}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _written(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
