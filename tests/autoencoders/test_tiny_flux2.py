"""`AutoencoderTinyFlux2` in FLUX.2's pipelines: they see its latents as they are."""

import diffusers
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLFlux2, AutoModel, DiffusionPipeline, Flux2KleinPipeline, Flux2Pipeline

from support.tiny_diffusers import tiny
from support.tiny_pipelines import NO_TEXT, TEXT_LENGTH, TEXT_WIDTH, TRANSFORMER, _normal, _random, picture
from vae_plugin import AutoencoderTinyFlux2
from vae_plugin.autoencoders import adapt, new_student

SIDE = 64  # the least that an image may have
CALL = {
    "prompt_embeds": _normal(1, TEXT_LENGTH, TEXT_WIDTH),
    "height": SIDE,
    "width": SIDE,
    "num_inference_steps": 2,
    "guidance_scale": 1.0,
}


def pipeline(cls, vae):
    transformer = _random(
        diffusers.Flux2Transformer2DModel,
        in_channels=4 * vae.config.latent_channels,
        num_single_layers=1,
        joint_attention_dim=TEXT_WIDTH,
        timestep_guidance_channels=8,
        axes_dims_rope=(2, 2, 2, 2),
        guidance_embeds=False,
        **TRANSFORMER,
    )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    pipe = cls(vae=vae, transformer=transformer, scheduler=scheduler, **NO_TEXT)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def made(pipe, output_type, **call):
    return pipe(**CALL, **call, generator=torch.Generator().manual_seed(0), output_type=output_type).images


def grid(latents):
    """Latents (1, c, h, w) of the denoised tokens (1, h / 2 * w / 2, 4c), in rows, where a pipeline gives those."""
    if latents.ndim == 4:
        return latents
    side = round(latents.shape[1] ** 0.5)
    patches = latents.reshape(1, side, side, -1, 2, 2)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(1, -1, 2 * side, 2 * side)


@torch.no_grad()
@pytest.mark.parametrize(
    ("cls", "dtype"),
    [(Flux2Pipeline, torch.float32), (Flux2KleinPipeline, torch.float32), (Flux2Pipeline, torch.bfloat16)],
)
def test_a_pipeline_decodes_what_its_transformer_gives(cls, dtype):
    vae = tiny("AutoencoderTinyFlux2").to(dtype)
    pipe = pipeline(cls, vae)
    pipe.transformer.to(dtype)
    call = {**CALL, "prompt_embeds": CALL["prompt_embeds"].to(dtype)}
    latents, image = (
        pipe(**call, image=picture(SIDE), generator=torch.Generator().manual_seed(0), output_type=kind).images
        for kind in ("latent", "np")
    )
    expected = (vae.decode(grid(latents)).sample.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(image, expected)
    # ... and shows the transformer what the model encodes.
    x = pipe.image_processor.preprocess(picture(SIDE), SIDE, SIDE).to(dtype)
    seen = pipe._encode_vae_image(x, None)
    assert torch.equal(pipe._unpatchify_latents(seen), vae.encode(x).latents)


@torch.no_grad()
def test_the_eps_that_a_pipeline_adds_itself_is_that_of_the_model():
    model = tiny("AutoencoderTinyFlux2")
    for eps in (1e-5, model.config.batch_norm_eps):  # ERNIE-Image's pipeline has the number in its code
        assert torch.equal((model.bn.running_var + eps).sqrt(), torch.ones(16))
    assert not model.bn.running_mean.any()


def test_a_saved_pipeline_and_a_saved_model_open_without_a_flag(tmp_path):
    pipe = pipeline(Flux2KleinPipeline, tiny("AutoencoderTinyFlux2"))
    pipe.save_pretrained(tmp_path)
    again = DiffusionPipeline.from_pretrained(tmp_path, text_encoder=None, tokenizer=None)
    again.set_progress_bar_config(disable=True)
    assert type(again.vae) is AutoencoderTinyFlux2
    np.testing.assert_allclose(made(again, "np"), made(pipe, "np"), rtol=0, atol=1e-5)
    assert type(AutoModel.from_pretrained(str(tmp_path / "vae"))) is AutoencoderTinyFlux2


@torch.no_grad()
def test_a_student_stands_in_for_its_teacher_whose_statistics_it_has_learnt():
    """What a teacher's pipeline shows its transformer is what the student is to encode and decode."""
    teacher = tiny("AutoencoderKLFlux2")
    generator = torch.Generator().manual_seed(1)
    teacher.bn.running_mean.copy_(torch.randn(16, generator=generator))
    teacher.bn.running_var.copy_(torch.rand(16, generator=generator) + 0.5)
    adapter = adapt(teacher)
    x = torch.rand(2, 3, 16, 16, generator=generator) * 2 - 1
    seen = Flux2Pipeline._unpatchify_latents(pipeline(Flux2Pipeline, teacher)._encode_vae_image(x, None))
    torch.testing.assert_close(adapter.pipeline_latents(teacher.encode(x).latent_dist.mode()), seen)
    odd = adapter.latents(torch.rand(1, 3, 18, 14))
    assert odd.shape[-2:] == (9, 7)
    whole = adapter.pipeline_latents(torch.nn.functional.pad(odd, (0, 1, 0, 1)))
    assert torch.equal(adapter.pipeline_latents(odd), whole[..., :9, :7])

    student = new_student(adapter, 3, 4, (8, 8))
    assert isinstance(student, AutoencoderTinyFlux2)
    assert isinstance(new_student(adapt(student), 3, 4, (8, 8)), AutoencoderTinyFlux2)
    assert type(new_student(adapt(tiny("AutoencoderKL")), 3, 4, (8, 8))).__name__ == "AutoencoderTiny"
    assert isinstance(teacher, AutoencoderKLFlux2)


@torch.no_grad()
def test_slices_are_decoded_one_by_one():
    model = tiny("AutoencoderTinyFlux2")
    x = torch.rand(3, 3, 16, 16) * 2 - 1
    whole = model(x).sample
    model.enable_slicing()
    torch.testing.assert_close(model(x).sample, whole)
    with pytest.raises(NotImplementedError, match="AutoencoderTinyFlux2"):
        model.enable_tiling()


@pytest.mark.parametrize(
    ("field", "sentence"), [({"block_out_channels": (8, 16)}, "every level has"), ({"patch_size": (1, 1)}, "2 x 2")]
)
def test_what_cannot_be_is_refused(field, sentence):
    with pytest.raises(ValueError, match=sentence):
        AutoencoderTinyFlux2(**field)
