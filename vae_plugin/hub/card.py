"""The model card beside the weights: it reports what was measured, and omits everything else."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2
from diffusers.models.modeling_utils import ModelMixin
from huggingface_hub import EvalResult, ModelCard, ModelCardData, constants

from .. import distribution
from ..autoencoders import Adapter, adapt, scaling
from ..autoencoders.base import height_and_width
from ..autoencoders.padding import recorded_padding
from ..autoencoders.written import decode_call, encode_call
from . import prose
from .latent_space import denoiser_needs_after
from .merging import GENERATED_KEYS
from .preview import preview_code
from .record import RunRecord
from .results import Results
from .text import Markdown, environment, fenced, python_literal
from .videos import videos_lost

TASK = "image-to-image"  # the Hub has no task for autoencoders; well-known ones use this
PLACE = "PATH-OR-HUB-ID"
PIPELINE = "PATH-OR-HUB-ID-OF-A-PIPELINE"
# Pictures that stand elsewhere than among the others.
RECONSTRUCTIONS, EXAMPLE, DECODED = "reconstructions.png", "example.png", "example-decoded.png"


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
    record, adapter = record or RunRecord(), adapt(model)
    results = Results(metrics, record.perceptual)
    config, ratio = adapter.config, adapter.spatial_compression_ratio
    own = adapter.remote_code and adapter.likelihood is not None
    sides = height_and_width(config.sample_size if own else record.resolution or adapter.natural_resolution)
    height, width = (max(ratio, side // ratio * ratio) for side in sides)
    _, channels, latent_height, latent_width = adapter.latent_shape(1, height, width)
    kind = adapter.kind if own else "autoencoder"
    needs = denoiser_needs_after(record, Markdown)
    keeps_latents = record.base_model is not None and record.part == "decoder" and needs is None
    rows = results.rows()
    facts: dict[str, Any] = {
        "denoiser_needs": needs,
        "keeps_latents": keeps_latents,
        "origin": prose.origin(adapter.class_name, record, results),
        "what_was_trained": prose.what_was_trained(record, results),
        "repo_id": repo_id,
        "source": repo_id or PLACE,
        "pipeline": PIPELINE,
        "install": distribution.install_command() if adapter.remote_code else "pip install diffusers torch",
        "remote_class": adapter.remote_code,
        "package_url": distribution.repository(),
        "reconstructions": prose.picture(record, RECONSTRUCTIONS),
        **_example(record, repo_id),
        "pictures": prose.pictures(record, besides=(RECONSTRUCTIONS, EXAMPLE, DECODED)),
        "results": rows,
        "has_base": any(row.base for row in rows),
        "gain": results.gain(),
        "clip_gain": results.clip_gain(),
        "videos_lost": videos_lost(results, record, Markdown),
        "num_images": results.written("num_images"),
        "split": record.split,
        "resolution": record.resolution,
        "base_model": record.base_model,
        "lab": prose.lab(record),
        "limits": prose.limits(results, record),
        "training": prose.training(results, record),
        "command": None if record.command is None else fenced(record.command, "bash"),
        "discrete": adapter.discrete,
        "preview": preview_code(record),
        "preview_r2": _share(record.latent_preview.get("r2")),
        "files": dict(files or {}),
        "in_channels": adapter.in_channels,
        "height": height,
        "width": width,
        "latent_channels": channels,
        "latent_height": latent_height,
        "latent_width": latent_width,
        "spatial_compression_ratio": ratio,
        "num_parameters": f"{adapter.num_parameters:,}",
        "remote_code": remote_code,
        "papers": adapter.papers,
        "bibtex": fenced("\n\n".join(paper.bibtex for paper in adapter.papers), "bibtex"),
        "class_name": adapter.class_name,
        "encode": encode_call(adapter, "x"),
        "decode": decode_call(adapter, "z"),
        "has_frames": adapter.has_frames,
        "unit_range": adapter.unit_range,
        "pipelines": adapter.pipelines,
        "rule": scaling.rule(adapter.latent_scaling()),
        "standardized": None,
        "value_range": prose.value_range(adapter.value_range),
        "shown_bands": prose.shown_bands(adapter.in_channels) if record.pictures else "",
        "padding": None if (mode := recorded_padding(config)) == "zeros" else mode,
    }
    subfolder = "teacher_subfolder" if record.decoder else "subfolder"
    if keeps_latents and record.base_model_id is not None and subfolder in record.options:
        facts["pipeline"] = record.base_model_id  # the base is the autoencoder of a pipeline
    if own:
        standard = config.scaling_factor == 1 and config.shift_factor == 0
        facts |= {"network": config.get("network", "conv"), "likelihood": config.likelihood}
        if record.dataset is not None and not keeps_latents:  # no claim about latents that were not standardised here
            facts["standardized"] = standard and adapter.standardizes_channels
    name, shape = adapter.class_name, f"{channels} × {latent_height} × {latent_width} latents"
    if own and adapter.discrete:
        quantizer = adapter.model.quantizer
        codes, per_position = f"{quantizer.codebook_size:,}", quantizer.codes_per_position
        facts |= {
            "codebook_size": codes,
            "code_dim": quantizer.code_dim,
            "codes_per_position": per_position,
            "quantizer": type(quantizer).__name__,
        }
        name = f"VQ-VAE of {codes} codes"
        shape = f"{latent_height} × {latent_width}{f' × {per_position}' if per_position > 1 else ''} indices"
    elif own:
        name = "VAE"
    facts["title"] = prose.title(name, record, f"{height} × {width} pixels to {shape}")
    tags = ["vq-vae" if adapter.discrete else "vae", "diffusers"] if own else []
    data = _metadata(adapter, results, record, repo_id, tags)
    return rendered(kind, facts, data)


def rendered(kind: str, facts: Mapping[str, Any], data: ModelCardData) -> ModelCard:
    """The card of a template in `hub_cards`, from its facts and its metadata."""
    folder = resources.files("vae_plugin.hub_cards")
    made = environment(jinja2.FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")))
    keys = ", ".join(key for key in GENERATED_KEYS if data.get(key) is not None)
    values = {"card_data": Markdown(data.to_yaml()), "generated_keys": keys, **facts}
    return ModelCard(made.get_template(f"{kind}.md").render(values))


def _share(value: Any) -> str | None:
    return f"{value:.2f}" if type(value) in (int, float) else None


def _example(record: RunRecord, repo_id: str | None) -> dict[str, Any]:
    """The picture for the code of the card, what it gives, and the Python that names it."""
    example, decoded = prose.picture(record, EXAMPLE), prose.picture(record, DECODED)
    path = None if example is None else example["path"]
    if repo_id is None:
        file = python_literal(f"{PLACE}/{path}")
    else:
        file = Markdown(f"hf_hub_download({python_literal(repo_id)}, {python_literal(path)})")
    return {"example": example, "decoded": decoded, "example_file": file}


def _metadata(
    adapter: Adapter, results: Results, record: RunRecord, repo_id: str | None, tags: list[str]
) -> ModelCardData:
    ratio, channels = adapter.spatial_compression_ratio, adapter.latent_channels
    base, dataset = prose.hub_id(record.base_model_id), prose.hub_id(record.dataset_id)
    tags = [*tags, "autoencoder", f"f{ratio}", f"c{channels}", *(["fine-tuned"] if record.base_model else [])]
    facts = {
        "license": record.license,
        "license_name": record.license_name,
        "license_link": record.license_link,
        "base_model": base,
        "base_model_relation": "finetune" if base else None,
        "datasets": [dataset] if dataset else None,
        "thumbnail": _thumbnail(record, repo_id),
    }
    library = distribution.NAME if adapter.remote_code else "diffusers"
    data = ModelCardData(library_name=library, pipeline_tag=TASK, tags=[*tags, distribution.NAME], inference=False)
    for name, fact in facts.items():
        if fact is not None:
            data[name] = fact
    measured = results.measured()
    if measured and record.dataset is not None:
        data["model_name"] = f"{adapter.class_name} f{ratio} c{channels}"
        data["metrics"] = [key for key in ("psnr", "ssim") if key in measured] or None
        size = {"resolution": record.resolution, "num_images": results["num_images"]}
        data["eval_results"] = [
            EvalResult(
                task_type=TASK,
                task_name="Reconstruction",
                dataset_type=dataset or "images",
                dataset_name=record.dataset,
                dataset_split=record.split,
                dataset_args={k: v for k, v in size.items() if v is not None} or None,
                metric_type=key,
                metric_name=results.shown[key][0] + (f" ({results.shown[key][1]})" if results.shown[key][1] else ""),
                metric_value=value,
            )
            for key, value in measured.items()
        ]
    return data


def _thumbnail(record: RunRecord, repo_id: str | None) -> str | None:
    """Address of the first picture; the Hub needs an address."""
    picture = next(iter(prose.pictures(record)), None)
    if picture is None or repo_id is None:
        return None
    return f"{constants.ENDPOINT}/{repo_id}/resolve/main/{picture['path']}"
