"""What a fine-tune says of the latents that a denoiser is given, against the config before and after."""

import pytest
import torch

from support.tiny_diffusers import tiny
from vae_plugin.autoencoders import adapt
from vae_plugin.hub.latent_space import denoiser_needs
from vae_plugin.training.latent_space import LatentSpace


@pytest.mark.parametrize("stays", [False, True])
def test_what_pipelines_scale_by_is_told_as_it_was_and_as_it_is(stays):
    adapter = adapt(tiny("AutoencoderKL", scaling_factor=0.18215, shift_factor=0.1))
    space = LatentSpace(adapter, stays)
    unchanged = {"scaling_factor": {"was": 0.18215, "is": 0.18215}, "shift_factor": {"was": 0.1, "is": 0.1}}
    assert space.facts() == {"moved": not stays, "rescaled_only": False, **unchanged}

    adapter.write_latent_statistics(torch.full((4,), 0.5), torch.full((4,), 4.0))

    facts = space.facts()
    assert facts == {
        "moved": True,
        "rescaled_only": stays,
        "scaling_factor": {"was": 0.18215, "is": pytest.approx(0.25)},
        "shift_factor": {"was": 0.1, "is": pytest.approx(0.5)},
    }
    needs = denoiser_needs(facts, "user/base")
    assert "scaling_factor was 0.18215 and is 0.25, shift_factor was 0.1 and is 0.5" in needs
    assert "denoiser trained on" in needs
    assert "user/base" in needs
    assert ("old values in config.json" in needs) == stays


def test_statistics_of_each_channel_are_told_too():
    adapter = adapt(tiny("AutoencoderKLFlux2"))
    space = LatentSpace(adapter, stays=False)
    adapter.write_latent_statistics(torch.arange(16.0), torch.full((16,), 2.0))
    facts = space.facts()
    assert facts["bn.running_mean"] == {"was": [0.0] * 16, "is": list(range(16))}
    assert facts["bn.running_var"] == {"was": [1.0] * 16, "is": [4.0] * 16}
    assert "The latent space has moved: a denoiser" in denoiser_needs(facts, None)


def test_latents_that_stay_need_nothing():
    adapter = adapt(tiny("AutoencoderKL"))
    assert denoiser_needs(LatentSpace(adapter, stays=True).facts(), "user/base") is None
    assert denoiser_needs({}, None) is None
