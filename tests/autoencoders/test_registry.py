"""Every class of diffusers' autoencoders is adapted, or it is said why not."""

import importlib
import inspect
import pkgutil

import diffusers.models.autoencoders
import pytest
import torch
from diffusers import AutoencoderKL
from diffusers.models.modeling_utils import ModelMixin

from support.tiny_diffusers import BY_NAME, tiny
from vae_plugin.autoencoders import adapt
from vae_plugin.autoencoders.families.flux2 import Flux2Adapter
from vae_plugin.autoencoders.registry import ADAPTERS, NOT_ADAPTED, accepted_classes, family_of
from vae_plugin.errors import UserError

OURS = {"AutoencoderVAE", "AutoencoderVQVAE", "AutoencoderTinyFlux2"}


def classes_of_diffusers():
    package = diffusers.models.autoencoders
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for name, cls in vars(module).items():
            if inspect.isclass(cls) and issubclass(cls, ModelMixin) and cls.__module__ == module.__name__:
                yield name


def test_every_class_is_adapted_or_said_why_not():
    """Fails when diffusers adds a class: adapt it, or give the reason in `NOT_ADAPTED`."""
    assert ADAPTERS.keys() - OURS | NOT_ADAPTED.keys() == set(classes_of_diffusers())
    assert not ADAPTERS.keys() & NOT_ADAPTED.keys()
    assert all(len(reason.split()) > 4 for reason in NOT_ADAPTED.values())


def test_a_class_that_the_installed_diffusers_lacks_is_absent(monkeypatch):
    monkeypatch.setattr(Flux2Adapter, "class_name", "AutoencoderOfNextYear")
    assert Flux2Adapter.model_class() is None
    registry = importlib.reload(importlib.import_module("vae_plugin.autoencoders.registry"))
    assert "AutoencoderOfNextYear" not in registry.ADAPTERS
    assert len(registry.ADAPTERS) == len(registry.FAMILIES) - 1
    with pytest.raises(ValueError, match="AutoencoderKLFlux2 is not supported"):
        registry.adapt(tiny("AutoencoderKLFlux2"))
    monkeypatch.undo()
    importlib.reload(registry)


def test_another_model_is_refused():
    with pytest.raises(ValueError, match=r"Linear is not supported: it must be one of A.*VQModel"):
        adapt(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("name", BY_NAME)
def test_a_model_has_the_adapter_of_its_class(name):
    adapter = adapt(tiny(name))
    assert type(adapter) is family_of(name)
    assert adapt(adapter) is adapter
    assert type(adapter.to_saved()).__name__ == name


def test_a_subclass_is_adapted_as_what_it_derives_from():
    class Mine(AutoencoderKL):
        pass

    adapter = adapt(Mine(block_out_channels=(8,), norm_num_groups=4))
    assert adapter.class_name == "AutoencoderKL"
    assert type(adapter.to_saved()) is Mine


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("size", [(16, 16), (16, 24), (18, 13)])
def test_the_shapes_that_an_adapter_tells_are_those_of_the_model(name, size):
    adapter = adapt(tiny(name))
    x = torch.rand(2, 3, *size) * 2 - 1
    if adapter.only_image_size not in (None, size):
        with pytest.raises(UserError, match="takes images of 16 x 16 pixels only, not of"):
            adapter.latents(x)
        return
    with torch.no_grad():
        assert tuple(adapter.latents(x).shape) == adapter.latent_shape(2, *size)
        assert adapter.posterior(x).mode().shape == adapter.latents(x).shape
        assert adapter.reconstruct(x).shape == x.shape
        done = adapter.training_pass(x, torch.randn(adapter.noise_shape(2, *size)))
    assert done.reconstruction.shape == x.shape
    assert (done.kl is not None) == adapter.gaussian
    assert bool(done.codebook_losses) == adapter.discrete


def test_the_reason_stands_in_the_refusal():
    assert accepted_classes("AutoencoderKLMochi").endswith(f"AutoencoderKLMochi: {NOT_ADAPTED['AutoencoderKLMochi']}.")
    assert "AutoencoderKLFlux2" in accepted_classes("UNet2DModel")
