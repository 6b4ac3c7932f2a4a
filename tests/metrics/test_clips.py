"""Short clips: what training on images does to the videos of a model."""

import copy
import math

import pytest
import torch
from diffusers import AutoencoderKLWan

from support.tiny_diffusers import tiny
from vae_plugin.autoencoders import adapt
from vae_plugin.metrics import evaluate
from vae_plugin.metrics.clips import CLIPS, LONGEST_SIDE, ClipMeasure, clip_of
from vae_plugin.models.shares import Share


def images(count, side=16, seed=0):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_a_clip_moves_slowly_into_its_image():
    x = torch.linspace(-1, 1, 41)
    slope = torch.stack([x.view(1, -1).expand(41, -1), x.view(-1, 1).expand(-1, 41)])[None]  # columns, rows
    clip = clip_of(slope, 5)
    torch.testing.assert_close(clip[:, :, 0], slope, rtol=0, atol=0)
    for t in range(5):
        moved = x * (1 - 0.1 * t / 4) + 0.05 * t / 4 * 41 / 40  # pixels lie half a pixel within the borders
        torch.testing.assert_close(clip[0, 0, t], moved.view(1, -1).expand(41, -1), atol=1e-5, rtol=0)
        torch.testing.assert_close(clip[0, 1, t], moved.view(-1, 1).expand(-1, 41), atol=1e-5, rtol=0)


def test_clips_are_those_of_plain_diffusers():
    model = tiny("AutoencoderKLWan")
    x = images(CLIPS + 2)
    values = []
    with torch.no_grad():
        for image in x[:CLIPS]:
            clip = clip_of(image[None], 5)
            back = model.decode(model.encode(clip).latent_dist.mode()).sample
            levels = [(v.clamp(-1, 1) * 127.5 + 127.5).round() for v in (clip, back)]
            errors = [(levels[0] - levels[1])[:, :, t].square().mean().item() for t in range(1, 5)]
            values.append(sum(10 * math.log10(255**2 / error) for error in errors) / 4)
    measured = evaluate(model, [x[:3], x[3:]])
    assert measured.per_image["clip_psnr"] == pytest.approx(values, abs=1e-3)
    assert measured["clip_psnr"] == pytest.approx(sum(values) / CLIPS, abs=1e-3)
    assert len(measured.per_image["psnr"]) == CLIPS + 2


def test_clips_show_what_only_further_frames_reach():
    model = tiny("AutoencoderKLWan")
    other = copy.deepcopy(model)
    with torch.no_grad():
        for module in other.modules():
            if getattr(module, "kernel_size", (1,))[0] == 3 and getattr(module.weight, "ndim", 0) == 5:
                module.weight[:, :, :-1] += 0.2  # the taps that one frame does not reach
    x = images(2)
    before, after = evaluate(model, [x]), evaluate(other, [x])
    assert before["psnr"] == pytest.approx(after["psnr"], abs=1e-6)
    assert before["clip_psnr"] != pytest.approx(after["clip_psnr"], abs=1e-3)


@pytest.mark.parametrize("name", ["AutoencoderKL", "AutoencoderKLQwenImage21"])
def test_classes_of_images_have_no_clips(name):
    assert "clip_psnr" not in evaluate(tiny(name), [images(2)])


def test_clips_can_be_left_out_and_are_cut_from_the_middle_of_large_images():
    model = tiny("AutoencoderKLWan")
    x = images(1, side=18)
    assert "clip_psnr" not in evaluate(model, [x], clips=0)
    large = torch.nn.functional.pad(images(1, side=LONGEST_SIDE), (10,) * 4, value=1.0)
    measure = ClipMeasure(adapt(model), 1)
    seen = []
    measure.__dict__["reconstruct"] = lambda video: seen.append(video) or video
    assert measure(large, (0,)).item() == 100
    torch.testing.assert_close(seen[0][:, :, 0], large[..., 10:-10, 10:-10])
    assert measure(torch.zeros(1, 3, 17, 15), (0,)).item() == 100
    assert seen[1].shape == (1, 3, 5, 18, 16)  # padded to the ratio
    assert len(measure(large, (1,))) == 0  # the process that has the first image measures it


def test_processes_measure_the_clips_of_their_own_images():
    model = tiny("AutoencoderKLWan")
    x = images(4)
    measure = ClipMeasure(adapt(model), 3)
    together = measure(x, (0, 1, 2, 3))
    shares = [Share(x[:2], (0, 1), 0, 4), Share(x[2:], (2, 3), 2, 4)]
    apart = [measure(share.images, share.numbers) for share in shares]
    assert len(together) == 3
    torch.testing.assert_close(torch.cat(apart), together, rtol=0, atol=0)


def test_the_model_that_is_measured_stays_as_it_was():
    model = tiny("AutoencoderKLWan").train()
    state = copy.deepcopy(model.state_dict())
    evaluate(model, [images(1)])
    assert model.training
    assert isinstance(model, AutoencoderKLWan)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in state.items())
