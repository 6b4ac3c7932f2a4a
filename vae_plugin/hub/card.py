"""The model card beside the weights: it reports what was measured, and omits everything else."""

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
    "psnr_to_teacher": ("PSNR between decoded latents and the images that the teacher decodes", "dB"),
    "latent_mse": ("mean squared error of the encoded latents, whose variance is about 1", ""),
    "latents_mean": ("mean of the latents in pipelines", ""),
    "latents_std": ("standard deviation of the latents in pipelines", ""),
    "bits_per_dim": ("ELBO per pixel and channel", "bits"),
    "kl_nats": ("KL divergence of the posterior from the prior per image", "nats"),
    "active_units": ("active latent units", ""),
    "codebook_usage": ("share of codes in use", ""),
    "codebook_perplexity": ("perplexity of the codes", ""),
    "dead_codes": ("unused codes", ""),
    "codebook_positions": ("positions counted for these three", ""),
}
RENAMED = {"codebook_tokens": "codebook_positions"}  # names in the metrics.json of 0.1
TASK = "image-to-image"  # the Hub has no task for autoencoders; well-known ones use this


def model_card(
    model: Adapter | ModelMixin,
    metrics: Mapping[str, Any],
    record: RunRecord | None = None,
    *,
    repo_id: str | None = None,
    files: Mapping[str, str] | None = None,
    remote_code: str | None = None,
) -> ModelCard:
    """Write the card of an autoencoder.

    Args:
        model: an image autoencoder or its adapter, for the configuration and the number of weights.
        metrics: content of metrics.json, the source of every measured number.
        record: facts about the training run; without them the card describes the model only.
        repo_id: repository of the model.
        files: name -> SHA-256 of the weights.
        remote_code: name of the module beside the weights for loading without this package.
    """
    record = record or RunRecord()
    metrics = {RENAMED.get(name, name): value for name, value in metrics.items()}
    adapter = adapt(model)
    config, name, own = adapter.config, adapter.class_name, adapter.remote_code
    height, width = height_and_width(config.sample_size if own else record.resolution or adapter.natural_resolution)
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
        "spatial_compression_ratio": adapter.spatial_compression_ratio,
        "num_parameters": f"{sum(p.numel() for p in adapter.model.parameters()):,}",
        "remote_code": remote_code,
    }
    if not own:
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
        # No claim about weights that are not known to be trained.
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
    # Text of users is escaped by a filter for Markdown, rather than for HTML.
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
    ratio, channels = adapter.spatial_compression_ratio, adapter.latent_channels
    tags = [*tags, "autoencoder", f"f{ratio}", f"c{channels}", *(["fine-tuned"] if record.base_model else [])]
    facts = {
        "license": record.license,
        "license_name": record.license_name,
        "license_link": record.license_link,
        "base_model": record.base_model_id,
        "base_model_relation": "finetune" if record.base_model_id else None,
        "datasets": [record.dataset_id] if record.dataset_id else None,
        "thumbnail": _thumbnail(record, repo_id),
    }
    data = ModelCardData(library_name=library, pipeline_tag=TASK, tags=[*tags, "vae-plugin"], inference=False)
    for name, fact in facts.items():
        if fact is not None:
            data[name] = fact
    measured = {key: value for key in METRICS if (value := _number(metrics, key)) is not None}
    if measured and record.dataset is not None:
        data["model_name"] = f"{adapter.class_name} f{ratio} c{channels}"
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
    """Address of the first picture; the Hub needs an address."""
    picture = next(iter(record.pictures.values()), None)
    if picture is None or repo_id is None:
        return None
    return f"{constants.ENDPOINT}/{repo_id}/resolve/main/{quote(picture)}"


def _results(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    rows = []
    for key, (name, unit) in METRICS.items():
        value, base = _number(metrics, key), _number(metrics, f"base_{key}")
        if value is None:
            continue
        spread = f" ± {_written(metrics['psnr_std'])}" if key == "psnr" and "psnr_std" in metrics else ""
        unit = f" {unit}" if unit else ""
        rows.append(
            {
                "name": name + (", ± standard deviation over images" if spread else ""),
                "value": _written(value) + spread + unit,
                "base": "" if base is None else _written(base) + unit,
            }
        )
    return rows


def _gain(metrics: Mapping[str, Any]) -> str | None:
    gain, half = _number(metrics, "psnr_gain"), _number(metrics, "psnr_gain_ci95")
    if gain is None:
        return None
    interval = "" if half is None else f" (95 % confidence interval {gain - half:+.3g} to {gain + half:+.3g})"
    return f"{gain:+.3g} dB of PSNR{interval}"


def _origin(record: RunRecord, metrics: Mapping[str, Any]) -> str:
    words = f" fine-tuned from {_linked(record)}" if record.base_model else ""
    if record.dataset:
        words += f" on {escaped(record.dataset)}" if words else f" trained on {escaped(record.dataset)}"
    steps = _number(metrics, "steps")
    return words + (f" for {steps:,} steps" if words and steps is not None else "")


def _linked(record: RunRecord) -> str:
    if record.base_model_id is None:
        return escaped(record.base_model)
    pinned = f" (commit {in_code(record.base_revision)})" if record.base_revision else ""
    return f"[{escaped(record.base_model_id)}](https://huggingface.co/{quote(record.base_model_id)}){pinned}"


def _what_was_trained(record: RunRecord) -> str:
    words = ""
    if record.part == "decoder" and record.base_model:
        words = (
            " Only the decoder was trained: the latents are those of the base model, and a denoiser trained on them"
            " works with it."
        )
    elif record.part == "encoder":
        words = " Only the encoder was trained."
    if record.teacher:
        words += (
            f" It was trained to decode and encode the latents of {escaped(record.teacher)} as in a pipeline, shifted"
            " and scaled."
        )
    return words


def _limits(metrics: Mapping[str, Any], record: RunRecord) -> list[str]:
    """Limitations that were measured."""
    limits = []
    spread = [_number(metrics, f"psnr_{name}") for name in ("worst", "median", "best")]
    if None not in spread:
        worst, median, best = (_written(value) for value in spread if value is not None)
        limits.append(
            f"The worst of the {metrics.get('num_images')} reconstructions has a PSNR of {worst} dB (median {median}, "
            f"best {best})" + (", see the picture of extremes." if _shows_extremes(record) else ".")
        )
    dead = metrics.get("dead_codes")
    if dead:
        limits.append(
            f"{dead:,} codes were not used at any of the {metrics['codebook_positions']:,} positions counted."
        )
    if record.resolution:
        limits.append(f"Trained and measured at {record.resolution} x {record.resolution} pixels only.")
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
    if (speed := _number(metrics, "images_per_second")) is not None:
        rows["images per second"] = _written(speed)
    if record.versions:
        rows["versions"] = ", ".join(f"{escaped(name)} {escaped(v)}" for name, v in record.versions.items())
    if record.commit:
        rows["commit of vae-plugin"] = in_code(record.commit)
    return rows


def _pipeline_rule(config: Mapping[str, Any]) -> str | None:
    """How pipelines scale latents, from the fields of the config."""
    scale, shift = config.get("scaling_factor"), config.get("shift_factor")
    if config.get("latents_mean") is not None or scale is None:
        return None
    return f"(z - {shift}) * {scale}" if shift else f"z * {scale}"


def _number(metrics: Mapping[str, Any], key: str) -> float | None:
    """A measured value, if there is one and it is finite."""
    value = metrics.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if math.isfinite(value) else None


def _written(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
