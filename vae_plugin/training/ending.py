"""The end of a run: from its last step to the folder of its result."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from ..files import PARTIAL, filling_folder, write_json
from ..hub import write_card
from ..hub.latent_space import denoiser_needs_after
from ..hub.push import CARD
from ..hub.results import Results
from ..hub.videos import after_training_on_images
from ..metrics import Evaluation
from ..models.distributed import broadcast_from_first
from ..notices import show
from ..options import save as save_options
from .decoder import decoder_measures
from .discriminators import FOLDER as DISCRIMINATOR
from .discriminators import save_discriminator
from .evaluation import compare_with_base
from .failures import writing
from .lora import merge_lora, save_lora
from .main_process import on_main
from .result import load_best, save_weights
from .run import Run
from .settings.data import FROM_PYTHON
from .settings.moved import OPTIONS_FILE
from .statistics import AGGREGATED_IMAGES, LatentStatistics, fit_noise_scale, has_preview, measured_kl_terms

OF_A_CONTINUATION = ("resume_from_checkpoint", "allow_changed_data")


def finish(run: Run) -> dict[str, Any] | None:
    """Write the result: averaged weights where there are any, and what was measured of them on held-out images.

    The latents get mean 0 and variance 1, unless they are to stay as they were. All processes measure; the main one
    writes, and the others wait for it.

    Returns:
        The content of metrics.json on the main process, None on the others.

    Raises:
        TrainingStopped: if the result cannot be published.
    """
    run.checkpoints.save()
    run.data.set_epoch(run.state.epoch)  # the crops that statistics are taken of, also if no step was made here
    run.log.close()
    evaluation, more, preview = _measure_result(run)
    metrics = on_main(run.accelerator, lambda: _write_result(run, evaluation, more, preview))
    if run.accelerator.is_main_process:
        elbo = f", ELBO {metrics['elbo_nats']:.1f} nats" if "elbo_nats" in metrics else ""
        show(f"PSNR {metrics['psnr']:.2f} dB{elbo}. The result is in {run.output_dir}/")
    run.accelerator.end_training()
    if run.publisher is not None:
        run.publisher.result(run.total_steps)
    return metrics if run.accelerator.is_main_process else None


def loads_best(run: Run) -> bool:
    """Whether the result has the weights of the best evaluation; false where a continuation made none."""
    return run.options.output.load_best_model_at_end and run.state.best.step is not None


def _measure_result(run: Run) -> tuple[Evaluation, dict[str, float], dict[str, Any]]:
    """Make the model what it is as a result, and measure it, its latents, and its decoder where that is a new one."""
    adapter, data, seed = run.loss.adapter, run.data, run.options.optimization.seed
    run.average.keep()
    on_main(run.accelerator, lambda: _stage_lora(run))
    merge_lora(adapter.model)
    if loads_best(run):
        on_main(run.accelerator, lambda: load_best(adapter, run.output_dir, run.state.best))
        broadcast_from_first(adapter.model.state_dict().values())
    adapter.model.eval()
    keeps, has_likelihood = run.options.keeps_latents, adapter.likelihood is not None
    latents = None
    if not (keeps and has_likelihood) or has_preview(adapter):
        latents = LatentStatistics(adapter, data.statistics_images(), seed=seed)
        if not keeps:
            latents.write()
    fit_noise_scale(adapter, data.statistics_images(), seed=seed)
    evaluation = run.evaluator.measure(clips=True)
    more = {} if latents is None or has_likelihood else latents.seen()
    if run.options.objective.tc_weight is not None:
        more |= measured_kl_terms(adapter, data.statistics_images(AGGREGATED_IMAGES), seed=seed)
    data.gather_unreadable()
    base, resolution = run.base, run.options.data.resolution
    if base is not None and resolution is not None:
        more |= on_main(run.accelerator, lambda: decoder_measures(adapter, base, resolution))
    return evaluation, more, {} if latents is None else latents.preview()


def _write_result(run: Run, evaluation: Evaluation, more: dict[str, float], preview: dict[str, Any]) -> dict[str, Any]:
    """Weights, config, metrics.json, samples, options and the card, which appear in OUT at once."""
    output_dir = run.output_dir
    metrics: dict[str, Any] = {
        **evaluation,
        **compare_with_base(evaluation, run.base_file, run.loss.perceptual_measures),
        **more,
        "steps": run.state.best.step if loads_best(run) else run.state.step,
    }
    if run.state.images_per_second is not None:
        metrics["images_per_second"] = run.state.images_per_second
    run.accelerator.log({f"final/{name}": value for name, value in metrics.items()}, step=run.state.step)

    best = run.state.best
    with writing("the result", output_dir), filling_folder(output_dir) as folder:
        save_weights(run.loss.adapter, folder, run.options.hub.export_remote_code)
        if _lora_folder(run).is_dir():
            os.rename(_lora_folder(run), folder / "lora")
        if run.discriminator is not None:
            network = run.accelerator.unwrap_model(run.discriminator.module).discriminator
            save_discriminator(network, folder / DISCRIMINATOR, run.options.loss, run.state.step)
        pictures = {**run.pictures.save(folder), **run.pictures.save_extremes(folder, evaluation)}
        write_json(folder / "metrics.json", metrics)
        data = {"dataset_name": FROM_PYTHON} if run.options.data.from_python else {}
        save_options(run.options, folder / OPTIONS_FILE, without=OF_A_CONTINUATION, instead=data)
        record = run.recorder.record(pictures, run.state.seconds, best.facts(is_result=loads_best(run)), preview)
        record.save(folder)
        if (output_dir / CARD).is_file():
            shutil.copyfile(output_dir / CARD, folder / CARD)  # what people wrote in it stays
        write_card(folder)
    for sentence in (denoiser_needs_after(record), after_training_on_images(Results(metrics), record)):
        if sentence is not None:
            show(sentence)
    if loads_best(run):
        show(f"The result has the weights of step {best.step:,}, the best by {best.metric} ({best.value:.4g}).")
    run.data.report_unreadable()
    return metrics


def _lora_folder(run: Run) -> Path:
    return run.output_dir / f"lora{PARTIAL}"


def _stage_lora(run: Run) -> None:
    """Keep the low-rank changes, which will be part of the weights, until the result is written."""
    shutil.rmtree(_lora_folder(run), ignore_errors=True)
    with writing("the LoRA weights", _lora_folder(run)):
        save_lora(run.loss.adapter.model, _lora_folder(run))
