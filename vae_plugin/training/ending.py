"""The end of a run: from its last step to the folder of its result."""

from __future__ import annotations

from typing import Any

from ..hub import write_card
from ..options import save as save_options
from .evaluation import compare_with_base
from .latent_space import denoiser_needs
from .lora import merge_lora
from .result import save_metrics, save_weights
from .run import Run
from .statistics import fit_noise_scale, measured_latents, normalize_latents

OF_A_CONTINUATION = ("resume_from_checkpoint", "allow_changed_data")


def finish(run: Run) -> dict[str, Any] | None:
    """Write the result: averaged weights where there are any, and what was measured of them on held-out images.

    The latents get mean 0 and variance 1, unless they are to stay as they were.

    Returns:
        The content of metrics.json on the main process, None on the others.

    Raises:
        TrainingStopped: if the result cannot be published.
    """
    run.checkpoints.save()
    run.data.set_epoch(run.state.epoch)  # the crops that statistics are taken of, also if no step was made here
    run.log.close()
    metrics = None
    if run.accelerator.is_main_process:
        run.average.keep()
        metrics = _write_result(run)
        elbo = f", ELBO {metrics['elbo_nats']:.1f} nats" if "elbo_nats" in metrics else ""
        print(f"PSNR {metrics['psnr']:.2f} dB{elbo}. The result is in {run.output_dir}/")
    run.accelerator.wait_for_everyone()
    run.accelerator.end_training()
    if run.publisher is not None:
        run.publisher.result(run.total_steps)
    return metrics


def _write_result(run: Run) -> dict[str, Any]:
    """Weights, config, metrics.json, samples, options and the card; each is written beside its place and renamed."""
    adapter, data, output_dir, seed = run.loss.adapter, run.data, run.output_dir, run.options.optimization.seed
    merge_lora(adapter.model, output_dir / "lora")
    adapter.model.eval()
    if not run.options.keeps_latents:
        normalize_latents(adapter, data.statistics_images(), seed=seed)
    fit_noise_scale(adapter, data.statistics_images(), seed=seed)
    evaluation = run.evaluator.measure()
    psnr = evaluation.per_image["psnr"]
    metrics: dict[str, Any] = {**evaluation, **compare_with_base(psnr, run.base_file)}
    if adapter.likelihood is None:
        metrics |= measured_latents(adapter, data.statistics_images(), seed=seed)
    metrics["steps"] = run.state.step
    if run.state.images_per_second is not None:
        metrics["images_per_second"] = run.state.images_per_second
    run.accelerator.log({f"final/{name}": value for name, value in metrics.items()}, step=run.state.step)

    save_weights(adapter, output_dir, run.options.hub.export_remote_code)
    pictures = {**run.pictures.save(), **run.pictures.save_extremes(psnr)}
    save_metrics(metrics, output_dir)
    save_options(run.options, output_dir / "training_options.yaml", without=OF_A_CONTINUATION)
    record = run.recorder.record(pictures, run.state.seconds)
    record.save(output_dir)
    write_card(output_dir)
    if (needs := denoiser_needs(record.latent_space, record.base_model)) is not None:
        print(needs)
    data.report_unreadable()
    return metrics
