"""The recipe's loss against straightforward formulas: gradients, weights, networks that judge."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from support.tiny_diffusers import tiny
from vae_plugin.autoencoders import adapt
from vae_plugin.autoencoders.families.asymmetric import rectangles
from vae_plugin.errors import UserError
from vae_plugin.training.losses import (
    Adversary,
    DiscriminatorLoss,
    ImageLoss,
    PatchDiscriminator,
    PerceptualDistance,
    ReconstructionLoss,
    load_perceptual,
)
from vae_plugin.training.losses.discriminator import discriminator_loss, generator_loss
from vae_plugin.training.losses.perceptual import EPSILON
from vae_plugin.training.losses.reconstruction import last_weight


class Features(nn.Module):
    """Two feature maps of different sizes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second = nn.Conv2d(3, 5, 3), nn.Conv2d(5, 7, 3, stride=2)

    def forward(self, x):
        one = self.first(x).relu()
        return one, self.second(one).relu()


def images(n=2, size=16, seed=0):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def a_network():
    """For `--perceptual_loss`."""
    return PerceptualDistance(Features())


def not_a_network():
    return 3


def test_the_perceptual_distance_is_lpips():
    features, weights = Features(), [torch.rand(5), torch.rand(7)]
    distance = PerceptualDistance(features, weights)
    x, y = images(), images(seed=1)
    expected = torch.zeros(2)
    for a, b, w in zip(features(x), features(y), weights, strict=True):
        for i in range(2):
            for row in range(a.shape[2]):
                for column in range(a.shape[3]):
                    u, v = a[i, :, row, column], b[i, :, row, column]
                    u, v = u / (u.norm() + 1e-10), v / (v.norm() + 1e-10)
                    expected[i] += (w * (u - v) ** 2).sum() / (a.shape[2] * a.shape[3])
    torch.testing.assert_close(distance(x, y), expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(distance(x, x), torch.zeros(2))


def test_its_gradient_reaches_the_images_and_not_its_weights():
    distance = PerceptualDistance(Features(), [torch.rand(5), torch.rand(7)]).train()
    y = images(seed=1).requires_grad_()
    distance(images(), y).sum().backward()
    assert y.grad.abs().sum() > 0
    assert not any(p.requires_grad or p.grad is not None for p in distance.parameters())
    assert not any(m.training for m in distance.modules())


def test_it_is_finite_where_there_are_no_features():
    distance = PerceptualDistance(nn.Sequential())  # features are the images' pixels, of one level per channel
    distance.features.forward = lambda x: (x,)
    x = torch.zeros(1, 3, 4, 4, requires_grad=True)
    distance(x, images(1, 4)).sum().backward()
    assert torch.isfinite(x.grad).all()
    assert pytest.approx(1e-10) == EPSILON


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_it_takes_images_of_any_number_of_channels(channels):
    distance = a_network()
    x, y = torch.rand(2, channels, 16, 16), torch.rand(2, channels, 16, 16)
    seen = [t[:, :3] if channels >= 3 else t[:, :1].repeat(1, 3, 1, 1) for t in (x, y)]
    torch.testing.assert_close(distance(x, y), distance(*seen))


def test_networks_by_name():
    network = load_perceptual("test_image_loss:a_network")
    assert not any(p.requires_grad for p in network.parameters())
    with pytest.raises(UserError, match="returns a int"):
        load_perceptual("test_image_loss:not_a_network")
    with pytest.raises(UserError, match="lpips-vgg, lpips-alex"):
        load_perceptual("resnet")
    with pytest.raises(UserError, match="did you mean 'lpips-vgg'"):
        load_perceptual("vgg16")


@pytest.mark.parametrize("learned_variance", [False, True])
@pytest.mark.parametrize("pixel", ["l1", "l2"])
@pytest.mark.parametrize("adaptive", [False, True])
def test_gradients_are_those_of_the_sum_of_the_losses(pixel, adaptive, learned_variance):
    """With the weight of VQGAN's code: both gradients at the last layer's weight, by autograd, all in one graph."""
    torch.manual_seed(0)
    model, discriminator, distance = tiny("AutoencoderKL"), PatchDiscriminator(3, 4, 1), a_network()
    x = images()
    loss_module = ImageLoss(
        pixel,
        learned_variance=learned_variance,
        perceptual=distance,
        perceptual_scale=0.7,
        adversary=Adversary(discriminator, scale=0.5, adaptive=adaptive),
    )
    if learned_variance:
        loss_module.log_variance.data.fill_(-0.4)
    loss, terms = loss_module(model(x).sample, x, last_weight(adapt(model)), step=0)
    loss.backward()
    parameters = [p for p in (*model.parameters(), *loss_module.parameters()) if p.grad is not None]
    gradients = [p.grad.clone() for p in parameters]
    assert not any(p.grad is not None for p in (*discriminator.parameters(), *distance.parameters()))

    y = model(x).sample
    nll = (F.l1_loss if pixel == "l1" else F.mse_loss)(y, x) + 0.7 * distance(y, x).mean()
    if learned_variance:
        nll = nll * torch.exp(-loss_module.log_variance) + loss_module.log_variance
    adversarial = -discriminator(y).mean()
    weight = torch.tensor(0.5)
    if adaptive:
        of_nll, of_adversarial = (
            torch.autograd.grad(value, model.decoder.conv_out.weight, retain_graph=True)[0].norm()
            for value in (nll, adversarial)
        )
        weight = 0.5 * (of_nll / (of_adversarial + 1e-4)).clamp(0, 1e4).detach()
    expected = nll + weight * adversarial
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(terms["adversarial_weight"], weight, rtol=1e-4, atol=1e-6)
    for gradient, other in zip(gradients, torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-3, atol=1e-7)


def test_before_its_first_step_the_adversary_is_not_asked():
    class Never(nn.Module):
        def forward(self, x):
            raise AssertionError

    loss_module = ImageLoss(adversary=Adversary(Never(), start_step=3))
    loss, terms = loss_module(images(), images(seed=1), None, step=2)
    torch.testing.assert_close(loss, (images() - images(seed=1)).abs().mean())
    assert terms.keys() == {"l1"}
    with pytest.raises(AssertionError):
        loss_module(images().requires_grad_(), images(seed=1), None, step=3)


def test_the_frozen_networks_are_neither_trained_nor_saved():
    adversary = Adversary(PatchDiscriminator(3, 4, 1))
    loss = ReconstructionLoss(adapt(tiny("AutoencoderKL")), ImageLoss(perceptual=a_network(), adversary=adversary))
    assert all(name.startswith("model.") for name in loss.state_dict())


def test_the_losses_of_the_discriminator():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.0])
    assert discriminator_loss(real, fake, "hinge").item() == pytest.approx(0.5 * (0.25 + 0.5))
    vanilla = -0.5 * (F.logsigmoid(real).mean() + F.logsigmoid(-fake).mean())
    assert discriminator_loss(real, fake, "vanilla").item() == pytest.approx(vanilla.item())
    assert generator_loss(fake, "hinge").item() == pytest.approx(1.5)
    assert generator_loss(fake, "vanilla").item() == pytest.approx(-F.logsigmoid(fake).mean().item())


def test_r1_is_the_squared_gradient_at_real_images():
    linear = nn.Conv2d(3, 1, 16, bias=False)  # D(x) = <w, x>: the gradient is w
    loss = DiscriminatorLoss(linear, regularization="r1", regularization_scale=10.0)
    terms = loss(images(), images(seed=1))
    expected = 0.5 * linear.weight.square().sum()
    assert terms["r1"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert (terms["loss"] - terms["discriminator_loss"]).item() == pytest.approx(10 * expected.item(), rel=1e-4)
    without = DiscriminatorLoss(linear)(images(), images(seed=1))["loss"]
    (gradient,) = torch.autograd.grad(terms["loss"] - without, linear.weight)
    torch.testing.assert_close(gradient, 10 * linear.weight.detach(), rtol=1e-4, atol=1e-4)


def test_lecam_is_the_distance_to_the_other_sides_average():
    linear = nn.Conv2d(3, 1, 16, bias=False)
    loss = DiscriminatorLoss(linear, regularization="lecam", regularization_scale=1.0, average_decay=0.5)
    x, y = images(), images(seed=1)
    real, fake = linear(x), linear(y)
    first = loss(x, y)
    begins = (real.relu() ** 2).mean() + ((-fake).relu() ** 2).mean()
    assert first["lecam"].item() == pytest.approx(begins.item())
    averages = torch.stack([real.mean(), fake.mean()]) * 0.5
    torch.testing.assert_close(loss.averages, averages.detach())
    second = loss(x, y)["lecam"].item()
    expected = ((real - averages[1]).relu() ** 2).mean() + ((averages[0] - fake).relu() ** 2).mean()
    assert second == pytest.approx(expected.item(), rel=1e-5)
    assert "averages" in loss.state_dict()


def test_a_patch_discriminator_sees_patches_of_70_pixels():
    discriminator = PatchDiscriminator(3, 8, 3).double()
    discriminator.layers = nn.Sequential(*(m for m in discriminator.layers if not isinstance(m, nn.GroupNorm)))
    x = torch.rand(1, 3, 128, 128, dtype=torch.double, requires_grad=True)
    logits = discriminator(x)
    assert logits.shape == (1, 1, 14, 14)
    (gradient,) = torch.autograd.grad(logits[0, 0, 7, 7], x)
    rows = gradient[0].abs().sum((0, 2)).nonzero().flatten()
    assert rows[-1] - rows[0] + 1 == 70


def test_masks_are_rectangles():
    masks = rectangles(torch.randn(200, 4, 4, generator=torch.Generator().manual_seed(0)), (12, 20))
    assert masks.shape == (200, 1, 12, 20)
    for mask in masks[:, 0]:
        rows, columns = mask.amax(1), mask.amax(0)
        assert torch.equal(mask, rows[:, None] * columns[None])
        for side in (rows, columns):
            assert (side.diff().abs().sum() + side[0] + side[-1]) in (0, 2)
    assert masks.mean().item() == pytest.approx(1 / 9, abs=0.03)  # E|u - v| = 1/3 along each side


@pytest.mark.parametrize(("step", "asked"), [(2, False), (3, True), (7, True)])
def test_the_adversary_is_asked_from_its_first_step_on(step, asked):
    loss = ImageLoss(adversary=Adversary(PatchDiscriminator(3, 4, 1), start_step=3))
    _, terms = loss(images().requires_grad_(), images(seed=1), None, step)
    assert ("adversarial" in terms) == asked


def test_the_discriminator_begins_as_in_its_paper():
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(3, 16, 2)
    convolutions = [m for m in discriminator.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.stride[0]) for c in convolutions] == [
        (3, 16, 2), (16, 32, 2), (32, 64, 1), (64, 1, 1),
    ]  # fmt: skip
    weights = torch.cat([c.weight.flatten() for c in convolutions])
    assert weights.std().item() == pytest.approx(0.02, rel=0.05)
    assert [m.num_groups for m in discriminator.modules() if isinstance(m, nn.GroupNorm)] == [16, 32]
    assert discriminator.smallest_image == 16
    assert discriminator(torch.zeros(1, 3, 16, 16)).shape == (1, 1, 2, 2)


def test_a_discriminator_is_at_most_eight_times_as_wide_as_its_first_layer():
    convolutions = [m for m in PatchDiscriminator(1, 4, 5).modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [4, 8, 16, 32, 32, 32, 1]
