"""Causal autoencoders in their one-frame form, against plain diffusers."""

import json

import pytest
import torch
from diffusers import QwenImageImg2ImgPipeline
from diffusers.pipelines.joyimage.pipeline_joyimage_edit import JoyImageEditPipeline
from diffusers.pipelines.qwenimage21.pipeline_qwenimage21 import QwenImage21Pipeline
from PIL import Image
from torch.nn.parallel import DistributedDataParallel

from support.processes import together
from support.runs import assert_same, options, weights
from support.tiny_diffusers import decoded, latents, reconstruction, tiny
from support.tiny_lab import open_lab
from vae_plugin import finetune
from vae_plugin.autoencoders import adapt, load_autoencoder
from vae_plugin.autoencoders.one_frame import BETWEEN_FRAMES
from vae_plugin.errors import UserError
from vae_plugin.training.losses import ImageLoss, ReconstructionLoss
from vae_plugin.training.statistics import LatentStatistics

WAN22 = {"is_residual": True, "patch_size": 2, "in_channels": 12, "out_channels": 12, "scale_factor_spatial": 4}
RGBA = {"in_channels": 4, "out_channels": 4}
MODELS = {
    "wan": ("AutoencoderKLWan", {}),
    "wan 2.2": ("AutoencoderKLWan", WAN22),
    "qwen": ("AutoencoderKLQwenImage", {}),
    "layered": ("AutoencoderKLQwenImage", {"input_channels": 4}),
    "qwen 2.1": ("AutoencoderKLQwenImage21", RGBA),
}
every_model = pytest.mark.parametrize("kind", MODELS)


def made(kind):
    name, changes = MODELS[kind]
    return tiny(name, **changes)


def pictures(model, n=2, seed=0):
    channels = adapt(model).in_channels
    return torch.rand(n, channels, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def reached(model):
    """Of each weight the part that has a gradient of one frame in plain diffusers, as a mask of its taps in time."""
    x = pictures(model)
    model.zero_grad(set_to_none=True)
    z = model.encode(x[:, :, None]).latent_dist
    (model.decode(z.mode() + z.std).sample.square().sum() + z.mode().square().sum()).backward()
    return {
        name: torch.zeros_like(p, dtype=torch.bool) if p.grad is None else taps(p.grad != 0).expand_as(p)
        for name, p in model.named_parameters()
    }


def taps(mask):
    """Whether any entry of a tap in time is set; of all entries where there is no time."""
    return mask.any(dim=(0, 1, 3, 4), keepdim=True) if mask.ndim == 5 else mask.any()


@every_model
def test_what_is_trained_is_what_one_frame_reaches(kind):
    model = made(kind)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    adapter = adapt(model)
    with torch.no_grad():
        for parameter in adapter.model.parameters():
            parameter.add_(1)
    saved = adapter.to_saved().state_dict()
    for name, mask in reached(model).items():
        assert torch.equal(saved[name] != before[name], mask), name
    assert saved.keys() == before.keys()
    assert any(BETWEEN_FRAMES in name for name in saved)
    assert_same(model.state_dict(), before)  # the user's model
    done = adapter.training_pass(pictures(model), torch.randn(adapter.noise_shape(2, 16, 16)))
    (done.reconstruction.square().sum() + done.kl.sum()).backward()
    assert all(p.grad is not None for p in adapter.model.parameters())  # nothing is unused


@every_model
def test_it_measures_as_plain_diffusers_and_trains_without_the_clamp(kind):
    model = made(kind)
    with torch.no_grad():
        model.decoder.conv_out.weight.mul_(20)
    adapter, x = adapt(model), pictures(model)
    with torch.no_grad():
        z = latents(model, x).chunk(2, dim=1)[0]
        torch.testing.assert_close(adapter.latents(x), z, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(adapter.decode(z), decoded(model, z), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(adapter.reconstruct(x), reconstruction(model, x), rtol=1e-4, atol=1e-4)
        assert adapter.reconstruct(x).abs().max() == 1
        saved = adapter.to_saved()
        assert torch.equal(reconstruction(saved, x), reconstruction(model, x))
        assert dict(saved.config) == dict(model.config)
    output = adapter.training_pass(x, torch.zeros(adapter.noise_shape(2, 16, 16))).reconstruction
    outside = output[output.abs() > 1]
    assert len(outside)
    (gradient,) = torch.autograd.grad(outside.abs().sum(), adapter.last_layer.weight)
    assert gradient.abs().sum() > 0


@every_model
def test_one_frame_is_an_image_and_more_are_refused(kind):
    model = made(kind)
    adapter, x = adapt(model), pictures(model)
    with torch.no_grad():
        z = adapter.latents(x)
        assert torch.equal(adapter.latents(x[:, :, None]), z)
        assert torch.equal(adapter.decode(z[:, :, None]), adapter.decode(z))
        for frames in (adapter.posterior, adapter.reconstruct, adapter.model.encode):
            with pytest.raises(UserError, match=r"^3 frames were given, .* works with images.*give one frame.*\.$"):
                frames(x[:, :, None].expand(-1, -1, 3, -1, -1))
        with pytest.raises(UserError, match="2 frames were given"):
            adapter.decode(z[:, :, None].expand(-1, -1, 2, -1, -1))


def test_the_lab_takes_the_latents_of_a_pipeline():
    with open_lab(made("wan"), max_images=2) as lab:
        z = torch.randn(1, *lab.latent.shape)
        lab.latent = z[:, :, None]
        assert torch.equal(lab.latent, z[0])
        with pytest.raises(UserError, match="2 frames were given"):
            lab.latent = z[:, :, None].expand(-1, -1, 2, -1, -1)


def trained_together(rank, folder):
    """Two steps, which fail in the second if a weight was unused in the first."""
    adapter = adapt(made("wan").train())
    loss = DistributedDataParallel(ReconstructionLoss(adapter, ImageLoss("l2"), kl_scale=1e-3))
    optimizer = torch.optim.AdamW(adapter.model.parameters(), lr=1e-2, weight_decay=0.5)
    for step in range(2):
        x = pictures(made("wan"), seed=2 * step + rank)
        loss(x, torch.zeros(adapter.noise_shape(2, 16, 16)), step)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.save(adapter.to_saved().state_dict(), f"{folder}/{rank}.pt")


@pytest.mark.slow
def test_two_processes_find_nothing_unused(tmp_path):
    together(trained_together, str(tmp_path), preload=["vae_plugin.training.losses"])
    one, other = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert_same(one, other)
    before = made("wan").state_dict()
    assert not torch.equal(one["encoder.conv_in.weight"][:, :, -1], before["encoder.conv_in.weight"][:, :, -1])
    assert torch.equal(one["encoder.conv_in.weight"][:, :, :-1], before["encoder.conv_in.weight"][:, :, :-1])


PIPELINES = {  # the methods by which pipelines make their latents of an image
    "wan": lambda vae, x: JoyImageEditPipeline.normalize_latents(PartOfPipeline(vae), sampled(vae, x)),
    "qwen": lambda vae, x: QwenImageImg2ImgPipeline._encode_vae_image(
        PartOfPipeline(vae), x, torch.Generator().manual_seed(3)
    ),
    "qwen 2.1": lambda vae, x: QwenImage21Pipeline._encode_vae_image(PartOfPipeline(vae), x, None),
}
BACK = {"wan": lambda vae, z: JoyImageEditPipeline.denormalize_latents(PartOfPipeline(vae), z)}


class PartOfPipeline:
    """In place of a pipeline, whose methods need its autoencoder only."""

    def __init__(self, vae):
        self.vae, self.latent_channels = vae, vae.config.z_dim


def sampled(vae, x):
    return vae.encode(x).latent_dist.sample(torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kind", PIPELINES)
@torch.no_grad()
def test_pipelines_see_standard_latents(kind, tmp_path):
    model = made(kind)
    adapter = adapt(model)
    images = [pictures(model, 16, seed) for seed in range(2)]
    LatentStatistics(adapter, images).write()
    adapter.save(tmp_path)
    saved = type(model).from_pretrained(tmp_path)
    x = torch.cat(images)[:, :, None]
    z = PIPELINES[kind](saved, x)
    # Qwen-Image 2.1's pipeline takes the mean of the posterior, the statistics are of samples
    spread = adapter.posterior(torch.cat(images)).mean.std((0, 2, 3)) / torch.tensor(saved.config.latents_std)
    expected = spread if kind == "qwen 2.1" else torch.ones(4)
    torch.testing.assert_close(z.mean((0, 2, 3, 4)), torch.zeros(4), atol=0.1, rtol=0)
    torch.testing.assert_close(z.std((0, 2, 3, 4)), expected, atol=0.1, rtol=0)
    torch.testing.assert_close(
        adapter.pipeline_latents(sampled(saved, x)[:, :, 0]).std((0, 2, 3)), torch.ones(4), atol=0.1, rtol=0
    )
    if kind in BACK:
        torch.testing.assert_close(BACK[kind](saved, z), sampled(saved, x))
    assert adapter.latent_scaling().keys() == {"latents_mean", "latents_std"}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    for i in range(12):
        coarse = torch.rand(1, 3, 4, 6, generator=torch.Generator().manual_seed(i))
        image = torch.nn.functional.interpolate(coarse, (20, 30), mode="bilinear")[0]
        Image.fromarray((image * 255).byte().permute(1, 2, 0).numpy()).save(folder / f"{i:02d}.png")
    return folder


def tuned(kind, folder, photographs, **changes):
    """A run of 2 steps from weights in bfloat16, and what the model was."""
    source, out = folder / "source", folder / "out"
    if not source.exists():
        made(kind).to(torch.bfloat16).save_pretrained(source)
    settings = {
        "pretrained_model_name_or_path": str(source),
        "train_data_dir": str(photographs),
        "max_train_steps": 2,
        "learning_rate": 1e-2,
        "adam_weight_decay": 0.5,
        "num_validation_images": 2,
        "train_batch_size": 2,
        **changes,
    }
    finetune.train(options(out, **settings))
    return made(kind).to(torch.bfloat16).float(), out


def unreached(model, out):
    """How many entries one frame does not reach; each of them is in the result to the bit."""
    count = 0
    state = weights(out)
    for name, mask in reached(model).items():
        before = model.get_parameter(name)
        assert torch.equal(state[name][~mask], before[~mask]), name
        if name.endswith("weight") and mask.any():  # low-rank changes are of weights only
            assert not torch.equal(state[name], before), name
        count += int((~mask).sum())
    return count


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("wan 2.2", {"use_ema": True, "disc_start": 1, "disc_channels": 4, "disc_layers": 1, "kl_scale": 1e-3}),
        ("qwen", {"lora_rank": 2, "lora_alpha": 8.0, "kl_scale": 1e-3, "max_train_steps": 4}),
        ("qwen 2.1", {"gradient_checkpointing": True, "channels_last": True, "kl_scale": 1e-3}),
    ],
)
def test_what_one_frame_does_not_reach_stays_to_the_bit(kind, changes, photographs, tmp_path):
    """With weight decay, averages, an adversary, low-rank changes; RGB photographs become opaque RGBA where asked."""
    model, out = tuned(kind, tmp_path, photographs, **changes)
    assert unreached(model, out)
    assert json.loads((out / "metrics.json").read_text())["psnr"] > 0
    assert type(load_autoencoder(str(out)).to_saved()) is type(model)


def test_a_resumed_run_ends_bit_for_bit_like_an_uninterrupted_one(photographs, tmp_path):
    settings = {"use_ema": True, "checkpointing_steps": 1, "kl_scale": 1e-3}
    model, whole = tuned("wan", tmp_path / "whole", photographs, **settings)
    (tmp_path / "again" / "out" / "checkpoints").mkdir(parents=True)
    first = whole / "checkpoints" / "step-000001"
    first.rename(tmp_path / "again" / "out" / "checkpoints" / first.name)
    source = str(tmp_path / "whole" / "source")
    _, again = tuned(
        "wan",
        tmp_path / "again",
        photographs,
        **settings,
        resume_from_checkpoint="latest",
        pretrained_model_name_or_path=source,
    )
    assert_same(weights(whole), weights(again))
    assert unreached(model, again)


@pytest.mark.parametrize(("kind", "field"), [("wan", "in_channels"), ("qwen", "input_channels")])
@torch.no_grad()
def test_other_channels(kind, field):
    model = made(kind)
    adapter = adapt(model)
    adapter.adapt_channels(4)
    rgba = adapter.to_saved()
    assert (rgba.config[field], adapter.in_channels) == (4, 4)
    x = pictures(model)
    with_alpha = torch.cat([x, torch.rand_like(x[:, :1])], dim=1)
    torch.testing.assert_close(latents(rgba, with_alpha), latents(model, x), rtol=1e-4, atol=1e-5)
    again = reconstruction(rgba, with_alpha)
    torch.testing.assert_close(again[:, :3], reconstruction(model, x), rtol=1e-4, atol=1e-5)
    assert (again[:, 3] == 1).all()
    assert torch.equal(rgba.encoder.conv_in.weight[:, :3], model.encoder.conv_in.weight)  # also of earlier frames
    assert adapt(model).in_channels == 3


def test_channels_of_patches_cannot_be_changed():
    with pytest.raises(UserError, match=r"--in_channels 4 .* AutoencoderKLWan of 3 channels: .* patches of 2x2 pixels"):
        adapt(made("wan 2.2")).adapt_channels(4)


@every_model
def test_a_copy_shares_the_whole_and_keeps_its_mode(kind):
    adapter = adapt(made(kind).train())
    assert adapter.model.training
    assert not adapt(made(kind)).model.training
    frozen = adapter.frozen_encoder()
    x = pictures(made(kind))
    with torch.no_grad():
        assert torch.equal(frozen.latents(x), adapter.latents(x))
    assert not any(p.requires_grad for p in frozen.model.parameters())
    assert adapter.num_parameters == sum(p.numel() for p in made(kind).parameters())


def test_reflected_borders_are_refused_with_the_reason():
    adapter = adapt(made("qwen"))
    adapter.set_padding_mode("zeros")
    with pytest.raises(UserError, match="AutoencoderKLQwenImage: its causal convolutions pad by zeros"):
        adapter.set_padding_mode("reflect")
