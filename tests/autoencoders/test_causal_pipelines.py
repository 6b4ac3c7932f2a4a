"""Causal autoencoders tuned on photographs, in image pipelines of plain diffusers."""

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from support import tiny_causal_pipelines as pipelines
from support.runs import options
from support.tiny_diffusers import tiny
from vae_plugin import finetune

SIXTEEN = {"dim_mult": [1] * 5, "temperal_downsample": [True] * 4, "scale_factor_spatial": 16}
CASES = {
    "QwenImage": (pipelines.build_qwen_image, "AutoencoderKLQwenImage", {}),
    "Cosmos2TextToImage": (pipelines.build_cosmos2, "AutoencoderKLWan", {}),
    "QwenImage21": (
        pipelines.build_qwen_image21,
        "AutoencoderKLQwenImage21",
        {**SIXTEEN, "in_channels": 4, "out_channels": 4},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_tuned_model_runs_in_its_pipeline(case, tmp_path):
    build, name, changes = CASES[case]
    pixels = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    (tmp_path / "photographs").mkdir()
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "photographs" / f"{i}.png")
    base = tiny(name, **changes)
    base.save_pretrained(tmp_path / "base")
    settings = {"max_train_steps": 2, "num_validation_images": 2, "train_batch_size": 2, "learning_rate": 1e-2}
    source, data = str(tmp_path / "base"), str(tmp_path / "photographs")
    resolution = 32 if name == "AutoencoderKLQwenImage21" else 16
    finetune.train(
        options(
            tmp_path / "out",
            pretrained_model_name_or_path=source,
            train_data_dir=data,
            resolution=resolution,
            **settings,
        )
    )
    vae = getattr(diffusers, name).from_pretrained(tmp_path / "out")
    pipeline = build(vae)
    images = pipeline()
    assert images.shape == (1, pipeline.side, pipeline.side, vae.config.get("out_channels", 3))
    assert np.isfinite(images).all()
    assert np.abs(images - build(base)()).max() > 1e-3
    assert vae.config.latents_std != base.config.latents_std
    if case == "QwenImage":
        assert np.isfinite(pipelines.build_qwen_image_img2img(vae)()).all()
    # As trained: with other statistics of the latents the pipeline gives another picture.
    vae.register_to_config(latents_std=[2 * value for value in vae.config.latents_std])
    assert torch.tensor(np.abs(build(vae)() - images)).max() > 1e-4
