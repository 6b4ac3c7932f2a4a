"""Every term of every recipe against an independent sum: its value, its weight, its sign, and its gradient."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from support.tiny_diffusers import BY_NAME, tiny
from vae_plugin import AutoencoderVAE, AutoencoderVQVAE
from vae_plugin.autoencoders import adapt
from vae_plugin.models.posteriors import DiagonalGaussian
from vae_plugin.objectives import TrainingObjective
from vae_plugin.training.losses import (
    CodebookLoss,
    DistillationLoss,
    ELBOLoss,
    ImageLoss,
    PerceptualDistance,
    ReconstructionLoss,
)

SIDE = 8
SMALL = {"block_out_channels": (8, 8), "norm_num_groups": 4, "sample_size": SIDE, "mid_block_add_attention": False}
DIMENSIONS = 3 * SIDE * SIDE


def images(n=3, seed=0, channels=3):
    return torch.rand(n, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def noise_for(loss, n=3):
    shape = loss.noise_shape(n, SIDE, SIDE)
    return torch.randn(shape, generator=torch.Generator().manual_seed(9))


def gradients(value, module):
    parameters = [p for p in module.parameters() if p.requires_grad]
    found = torch.autograd.grad(value, parameters, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def assert_the_same(loss_module, terms, expected, module):
    """Value and every gradient."""
    torch.testing.assert_close(terms["loss"].detach(), expected.detach(), rtol=1e-5, atol=1e-6)
    for ours, independent in zip(gradients(terms["loss"], module), gradients(expected, module), strict=True):
        torch.testing.assert_close(ours, independent, rtol=1e-3, atol=1e-6)


def vae(**config):
    torch.manual_seed(1)
    return AutoencoderVAE(in_channels=3, latent_channels=2, **{**SMALL, **config}).train()


def vqvae(**config):
    torch.manual_seed(1)
    settings = {"num_vq_embeddings": 16, "kmeans_init": False, "dead_code_threshold": 0.0, "sigma": 0.7}
    return AutoencoderVQVAE(in_channels=3, latent_channels=2, **{**SMALL, **settings, **config}).train()


def kl_of(mean, logvar):
    """KL(N(mean, exp(logvar)) || N(0, 1)) of each image, written out."""
    return 0.5 * (mean**2 + logvar.exp() - 1 - logvar).flatten(1).sum(1)


@pytest.mark.parametrize("step", [0, 1, 5])
@pytest.mark.parametrize(("alpha", "beta", "warmup"), [(1.0, 1.0, 0), (2.0, 0.3, 4)])
def test_the_elbo_of_a_gaussian_vae(alpha, beta, warmup, step):
    model, sigma = vae(sigma=0.4), 0.4
    loss = ELBOLoss(adapt(model), TrainingObjective(alpha=alpha, beta=beta, warmup_steps=warmup))
    x, noise = images(), noise_for(loss)
    terms = loss(x, noise, step)

    mean, logvar = model.encoder_output(x).chunk(2, 1)
    y = model.decoder_output(mean + (0.5 * logvar).exp() * noise)
    log_likelihood = -(0.5 * ((x - y) / sigma) ** 2 + math.log(sigma) + 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)
    kl = kl_of(mean, logvar)
    weight = beta * (1 if not warmup else min(1, (step + 1) / warmup))
    expected = (weight * kl - alpha * log_likelihood).mean() / DIMENSIONS
    assert_the_same(loss, terms, expected, model)
    assert terms["kl_nats"].item() == pytest.approx(kl.mean().item(), rel=1e-5)
    assert terms["elbo_nats"].item() == pytest.approx((log_likelihood - kl).mean().item(), rel=1e-5)
    assert terms["mse"].item() == pytest.approx(((x - y) ** 2).mean().item(), rel=1e-5)
    assert terms.keys() == {"loss", "kl_nats", "elbo_nats", "mse"}
    assert not any(value.requires_grad for name, value in terms.items() if name != "loss")


@pytest.mark.parametrize("update", ["vq", "ema"])
def test_the_loss_of_a_codebook(update):
    model, sigma = vqvae(quantizer_type=update, commitment_weight=0.6), 0.7
    loss = CodebookLoss(adapt(model))
    x = images()
    z = model.encoder_output(x)
    codes = model.quantizer.codebook.detach().clone().requires_grad_()
    vectors = z.movedim(1, -1).reshape(-1, 2)
    nearest = ((vectors[:, None] - codes[None]) ** 2).sum(2).argmin(1)
    chosen = codes[nearest]
    through = (vectors + (chosen - vectors).detach()).reshape(3, 4, 4, 2).movedim(-1, 1)
    y = model.decoder_output(through)
    nll = (0.5 * ((x - y) / sigma) ** 2 + math.log(sigma) + 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)
    commitment = 0.6 * ((vectors - chosen.detach()) ** 2).mean()
    codebook = ((chosen - vectors.detach()) ** 2).mean()
    expected = nll.mean() / DIMENSIONS + commitment + (codebook if update == "vq" else 0)
    networks = nn.ModuleList([model.encoder, model.decoder, model.quant_conv, model.post_quant_conv])
    wanted = gradients(expected, networks)
    of_codes = torch.autograd.grad(expected, codes, allow_unused=True)[0]

    terms = loss(x, noise_for(loss), 0)
    torch.testing.assert_close(terms["loss"].detach(), expected.detach(), rtol=1e-5, atol=1e-6)
    for ours, independent in zip(gradients(terms["loss"], networks), wanted, strict=True):
        torch.testing.assert_close(ours, independent, rtol=1e-3, atol=1e-6)
    if update == "vq":
        (ours,) = torch.autograd.grad(terms["loss"], model.quantizer.codebook)
        torch.testing.assert_close(ours, of_codes, rtol=1e-4, atol=1e-7)
        assert terms["codebook"].item() == pytest.approx(codebook.item(), rel=1e-5)
    assert terms["commitment"].item() == pytest.approx(commitment.item(), rel=1e-5)
    assert terms["kl_nats"].item() == pytest.approx(16 * math.log(16), rel=1e-6)
    assert terms["elbo_nats"].item() == pytest.approx(-nll.mean().item() - 16 * math.log(16), rel=1e-5)
    share = np.bincount(nearest.numpy(), minlength=16) / len(nearest)
    entropy = -sum(p * math.log(p) for p in share if p)
    assert terms["codebook_perplexity"].item() == pytest.approx(math.exp(entropy), rel=1e-5)


class Features(nn.Module):
    """One map of features."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(3, 5, 3)

    def forward(self, x):
        return (self.conv(x),)


def image_loss_of(x, y, pixel, log_variance, distance):
    error = (x - y).abs().mean() if pixel == "l1" else ((x - y) ** 2).mean()
    error = error + 0.7 * distance(y, x).mean()
    return error * (-log_variance).exp() + log_variance


@pytest.mark.parametrize("pixel", ["l1", "l2"])
@pytest.mark.parametrize("name", BY_NAME)
def test_the_reconstruction_of_every_class(name, pixel):
    """Pixels, perceptual distance and learned variance; KL where there is one; the losses of a codebook; an anchor."""
    changes = {"encoder_input_size": 56} if name == "AutoencoderRAE" else {}  # images of one size: 8 pixels
    adapter, original = adapt(tiny(name, **changes)), adapt(tiny(name, **changes))
    adapter.model.train()
    for parameter in adapter.model.parameters():  # so that the anchor pulls
        parameter.data.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)))
    distance = PerceptualDistance(Features())
    image_loss = ImageLoss(pixel, learned_variance=True, perceptual=distance, perceptual_scale=0.7)
    image_loss.log_variance.data.fill_(-0.3)
    loss = ReconstructionLoss(adapter, image_loss, kl_scale=0.2, anchor_scale=3.0)
    loss.original = original
    x, noise = images(), noise_for(loss)
    with torch.no_grad():
        before = original.latents(x)

    state = {key: value.clone() for key, value in adapter.model.state_dict().items()}
    codebook = torch.zeros(())
    if adapter.discrete:
        z = adapter.model.encoder_output(x)
        codes = adapter.model.quantizer.codebook.detach()
        vectors = z.movedim(1, -1).reshape(-1, codes.shape[1])
        chosen = codes[((vectors[:, None] - codes[None]) ** 2).sum(2).argmin(1)]
        codebook = 0.25 * ((vectors - chosen) ** 2).mean()
        through = (vectors + (chosen - vectors).detach()).reshape(*z.movedim(1, -1).shape).movedim(-1, 1)
        y, kl, latents = adapter.likelihood.mean(adapter.model.decoder_output(through)), torch.zeros(3), z
    elif adapter.gaussian:
        q = adapter.posterior(x)
        assert isinstance(q, DiagonalGaussian)
        z = q.mean + (0.5 * q.logvar).exp() * noise[:, : q.mean.shape[1]]
        masked = name == "AsymmetricAutoencoderKL"  # whose masks depend on the noise: see test_image_loss
        y = adapter.training_pass(x, noise).reconstruction if masked else adapter.decode_unclamped(z)
        kl, latents = kl_of(q.mean, q.logvar), q.mean
    else:
        latents = adapter.latents(x)
        y, kl = adapter.decode(latents), torch.zeros(3)
    anchor = ((latents - before) ** 2).mean()
    expected = (
        image_loss_of(x, y, pixel, image_loss.log_variance, distance)
        + 0.2 * kl.mean() / DIMENSIONS
        + codebook
        + 3.0 * anchor
    )
    wanted = gradients(expected, loss)
    adapter.model.load_state_dict(state)  # the statistics of a batch norm or a codebook as they were

    terms = loss(x, noise, 0)
    torch.testing.assert_close(terms["loss"].detach(), expected.detach(), rtol=1e-5, atol=1e-6)
    for ours, independent in zip(gradients(terms["loss"], loss), wanted, strict=True):
        torch.testing.assert_close(ours, independent, rtol=1e-3, atol=1e-6)
    assert terms["anchor"].item() == pytest.approx(anchor.item(), rel=1e-4)
    assert terms["mse"].item() == pytest.approx(((x - y) ** 2).mean().item(), rel=1e-4)
    assert ("kl_nats" in terms) == adapter.gaussian
    if adapter.gaussian:
        assert terms["kl_nats"].item() == pytest.approx(kl.mean().item(), rel=1e-4)
    assert terms["variance"].item() == pytest.approx(math.exp(-0.3))
    assert terms["perceptual"].item() == pytest.approx(distance(y, x).mean().item(), rel=1e-4)


def test_ours_with_a_pixel_loss():
    """The mean of the likelihood is compared, here a sigmoid stretched to [-1, 1]."""
    model = vae(likelihood="bernoulli")
    loss = ReconstructionLoss(adapt(model), ImageLoss("l2"), kl_scale=0.5)
    x, noise = images(), noise_for(loss)
    mean, logvar = model.encoder_output(x).chunk(2, 1)
    y = 2 * torch.sigmoid(model.decoder_output(mean + (0.5 * logvar).exp() * noise)) - 1
    expected = ((x - y) ** 2).mean() + 0.5 * kl_of(mean, logvar).mean() / DIMENSIONS
    assert_the_same(loss, loss(x, noise, 0), expected, model)


def test_what_is_not_trained_adds_no_loss():
    """With a locked encoder neither the KL nor a commitment has a gradient, and the loss is that of the images."""
    adapter = adapt(tiny("AutoencoderKL"))
    adapter.select_part("decoder")
    loss = ReconstructionLoss(adapter, ImageLoss("l1"), kl_scale=1e3)
    terms = loss(images(), noise_for(loss), 0)
    assert terms["loss"].item() == pytest.approx(terms["l1"].item())
    assert terms["kl_nats"].item() > 0


@pytest.mark.parametrize("part", ["all", "decoder"])
@pytest.mark.parametrize("teacher", ["AutoencoderKL", "AutoencoderDC"])
def test_a_distillation(teacher, part):
    changes = {"scaling_factor": 0.5}
    if teacher == "AutoencoderKL":
        changes["shift_factor"] = 0.2
    master, pupil = adapt(tiny(teacher, **changes)), adapt(tiny("AutoencoderTiny", seed=4))
    pupil.select_part(part)
    distance = PerceptualDistance(Features())
    loss = DistillationLoss(pupil, master, ImageLoss("l2", perceptual=distance, perceptual_scale=0.7), latent_scale=1.5)
    x, noise = images(), noise_for(loss)
    terms = loss(x, noise, 0)

    shift = changes.get("shift_factor", 0.0)
    with torch.no_grad():
        if teacher == "AutoencoderKL":
            q = master.model.encode(x).latent_dist
            z, centre = q.mean + q.std * noise, q.mean
        else:
            z = centre = master.model.encode(x).latent
        target = master.model.decode(z).sample
    y = pupil.model.decode((z - shift) * 0.5).sample
    latents = pupil.model.encode(x).latents
    latent_mse = ((latents - (centre - shift) * 0.5) ** 2).mean()
    expected = ((y - target) ** 2).mean() + 0.7 * distance(y, target).mean()
    if part == "all":
        expected = expected + 1.5 * latent_mse
    assert_the_same(loss, terms, expected, pupil.model)
    assert terms["latent_mse"].item() == pytest.approx(latent_mse.item(), rel=1e-4)
    assert terms["mse"].item() == pytest.approx(((y - target) ** 2).mean().item(), rel=1e-4)
    assert not any(p.requires_grad for p in master.model.parameters())

    with torch.no_grad():
        again = loss.reconstruct(x)
        torch.testing.assert_close(again, pupil.model.decode((centre - shift) * 0.5).sample)
        compared = loss.compare(x, again)
        decoded = master.model.decode(centre).sample
        levels = [((t.clamp(-1, 1) + 1) * 127.5).round().double() for t in (again, decoded)]
        psnr = 10 * torch.log10(255**2 / ((levels[0] - levels[1]) ** 2).mean((1, 2, 3)))
    torch.testing.assert_close(compared["psnr_to_teacher"].double(), psnr, rtol=1e-4, atol=1e-3)
    each = ((latents - (centre - shift) * 0.5) ** 2).mean((1, 2, 3))
    torch.testing.assert_close(compared["latent_mse"], each.detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(compared["perceptual"], distance(again, x))


def test_an_anchor_is_made_of_the_model_at_the_start():
    adapter = adapt(tiny("AutoencoderKL"))
    loss = ReconstructionLoss(adapter, ImageLoss("l1"), anchor_scale=2.0)
    x, noise = images(), noise_for(loss)
    before = adapter.latents(x).detach()
    with torch.no_grad():
        adapter.model.quant_conv.bias.add_(0.5)
    terms = loss(x, noise, 0)
    assert terms["anchor"].item() == pytest.approx(((adapter.latents(x) - before) ** 2).mean().item(), rel=1e-5)
    assert terms["anchor"].item() > 0.1
    assert terms["loss"].item() == pytest.approx(terms["l1"].item() + 2 * terms["anchor"].item(), rel=1e-5)
    without = ReconstructionLoss(adapter, ImageLoss("l1"))
    assert without.original is None
    assert "anchor" not in without(x, noise, 0)


@pytest.mark.parametrize("anchor", [0.0, 1.0])
def test_frozen_networks_are_moved(anchor):
    distance = PerceptualDistance(Features())
    loss = ReconstructionLoss(adapt(tiny("AutoencoderKL")), ImageLoss(perceptual=distance), anchor_scale=anchor)
    loss.place_frozen(torch.device("meta"))
    assert distance.features.conv.weight.is_meta
    assert not loss.model.decoder.conv_out.weight.is_meta
    if anchor:
        assert loss.original.model.encoder.conv_in.weight.is_meta
