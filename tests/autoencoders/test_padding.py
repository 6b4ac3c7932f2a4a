"""How convolutions pad: recorded in the config, kept by diffusers, applied wherever this package opens a model."""

import copy
import json
import logging

import pytest
import torch
from diffusers import AutoencoderKL, VQModel
from torch import nn

from support.tiny_diffusers import BY_NAME, tiny
from vae_plugin import AutoencoderVAE, AutoencoderVQVAE
from vae_plugin.autoencoders import adapt, load_autoencoder, new_from_config
from vae_plugin.autoencoders.padding import PADDING_KEY, padding_mode
from vae_plugin.errors import UserError

OURS = {"block_out_channels": (8, 8), "norm_num_groups": 4, "sample_size": 16}


def refusal(name):
    """Why a class cannot pad otherwise; None if it can."""
    try:
        adapt(tiny(name)).set_padding_mode("reflect")
    except UserError as error:
        return str(error)
    return None


REFLECTS = [name for name in BY_NAME if refusal(name) is None]


def made(name):
    torch.manual_seed(0)
    cls = {"AutoencoderVAE": AutoencoderVAE, "AutoencoderVQVAE": AutoencoderVQVAE}.get(name)
    return tiny(name) if cls is None else cls(**OURS).eval()


def by_hand(model, mode="reflect"):
    """What the community does after `from_pretrained`, to a copy."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and any(module.padding):
            module.padding_mode = mode
    return model


def image(side=16):
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


@torch.no_grad()
def decoded_flat(model, side=6):
    """What the model decodes flat latents as, (f, f, side, side, 3): by the place in a position, and the position."""
    z = torch.randn(1, adapt(model).latent_channels, 1, 1, generator=torch.Generator().manual_seed(1))
    images = adapt(model).decode(z.expand(-1, -1, side, side))
    f = images.shape[-1] // side
    return images[0].unflatten(1, (side, f)).unflatten(3, (side, f)).permute(2, 4, 1, 3, 0)


def test_the_classes_that_cannot_pad_otherwise_say_why():
    assert {"AutoencoderKL", "AutoencoderKLFlux2", "AutoencoderTiny", "AutoencoderDC", "VQModel"} <= set(REFLECTS)
    for name in BY_NAME.keys() - set(REFLECTS):
        assert f"--padding_mode reflect cannot be given to this {name}: " in refusal(name)
    with pytest.raises(UserError, match="this AutoencoderVAE: no convolution of its own pads"):
        adapt(AutoencoderVAE(network="mlp", sample_size=8)).set_padding_mode("reflect")


@pytest.mark.parametrize("name", [*REFLECTS, "AutoencoderVAE", "AutoencoderVQVAE"])
def test_a_model_computes_what_the_community_computes_and_keeps_it_through_every_door(name, tmp_path, caplog):
    model, x = made(name), image()
    expected = adapt(by_hand(model))
    adapter = adapt(copy.deepcopy(model))
    adapter.set_padding_mode("reflect")
    with torch.no_grad():
        z, picture = expected.latents(x), expected.decode(expected.latents(x))
        assert not torch.equal(z, adapt(copy.deepcopy(model)).latents(x))
    adapter.save(tmp_path / "saved")
    cls = type(model)
    with caplog.at_level(logging.WARNING):
        plain = cls.from_pretrained(tmp_path / "saved")
        plain.save_pretrained(tmp_path / "again")
        other = cls.from_config(plain.config)
        other.load_state_dict(model.state_dict())
    assert not [record for record in caplog.records if PADDING_KEY in record.getMessage()]
    assert plain.config[PADDING_KEY] == other.config[PADDING_KEY] == "reflect"
    doors = [
        load_autoencoder(str(tmp_path / "saved")),
        load_autoencoder(str(tmp_path / "again")),
        load_autoencoder(str(tmp_path / "again" / "diffusion_pytorch_model.safetensors")),
        adapt(plain),
        adapt(other.eval()),
        copy.deepcopy(adapter),
    ]
    fresh = new_from_config(str(tmp_path / "saved"))
    fresh.model.load_state_dict(adapter.model.state_dict())
    for door in [*doors, fresh]:
        door.model.eval()
        assert padding_mode(door.model) == "reflect"
        with torch.no_grad():
            assert torch.equal(door.latents(x), z)
            assert torch.equal(door.decode(z), picture)


@pytest.mark.parametrize("cls", [AutoencoderVAE, AutoencoderVQVAE])
def test_our_classes_pad_so_without_an_adapter(cls, tmp_path):
    torch.manual_seed(0)
    model = cls(**OURS, _padding_mode="reflect").eval()
    assert model.config[PADDING_KEY] == padding_mode(model) == "reflect"
    torch.manual_seed(0)
    expected = by_hand(cls(**OURS).eval())
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        for opened in (model, cls.from_pretrained(tmp_path).eval()):
            assert torch.equal(opened(image()).sample, expected(image()).sample)


def test_it_goes_with_the_model_into_another_class():
    vae, vq = (cls(**OURS, _padding_mode="replicate").eval() for cls in (AutoencoderVAE, AutoencoderVQVAE))
    kl, vq_model = vae.to_autoencoder_kl(), vq.to_vq_model()
    assert (type(kl), type(vq_model)) == (AutoencoderKL, VQModel)
    with torch.no_grad():
        for ours, theirs in [(vae, kl), (vq, vq_model)]:
            assert theirs.config[PADDING_KEY] == "replicate"
            torch.testing.assert_close(ours(image()).sample, theirs(image()).sample)
            for source in (theirs, by_hand(type(theirs).from_config(theirs.config), "replicate")):
                source.load_state_dict(theirs.state_dict())
                convert = AutoencoderVAE.from_autoencoder_kl if theirs is kl else AutoencoderVQVAE.from_vq_model
                torch.testing.assert_close(convert(source.eval())(image()).sample, theirs(image()).sample)


@pytest.mark.parametrize("name", [*REFLECTS, "AutoencoderVAE"])
@pytest.mark.parametrize("mode", ["reflect", "replicate"])
def test_flat_latents_have_no_border(name, mode):
    """A translation invariant network makes the same of every position, unless zeros come in at the border."""
    if mode == "replicate" and name in ("AutoencoderDC", "AutoencoderKLHunyuanImage"):
        return  # they make 2 x 2 pixels of a position, which a reflection continues and a repetition does not
    model = made(name)
    zeros = decoded_flat(copy.deepcopy(model))
    assert (zeros - zeros[:, :, 3:4, 3:4]).abs().max() > 0.01, "nothing to see: the test is empty"
    adapter = adapt(model)
    adapter.set_padding_mode(mode)
    flat = decoded_flat(adapter.model)
    torch.testing.assert_close(flat, flat[:, :, 3:4, 3:4].expand_as(flat), rtol=0, atol=1e-5)


def test_what_stays_zero_is_the_step_of_stride_two_as_in_the_community():
    """A flat image is encoded flat, apart from where `F.pad` adds zeros: below and at the right."""
    model = tiny("AutoencoderKL")
    adapter = adapt(model)
    adapter.set_padding_mode("reflect")
    with torch.no_grad():
        z = adapter.latents(torch.full((1, 3, 64, 64), 0.7))
        flat, padded = z[..., :20, :20], z[..., -1:, -1:]
        torch.testing.assert_close(flat, z[..., :1, :1].expand_as(flat), rtol=0, atol=1e-5)
        assert (padded - z[..., :1, :1]).abs().max() > 1e-3
        tiny_one = adapt(tiny("AutoencoderTiny"))  # which pads by convolutions alone
        tiny_one.set_padding_mode("reflect")
        z = tiny_one.latents(torch.full((1, 3, 64, 64), 0.7))
    torch.testing.assert_close(z, z[..., :1, :1].expand_as(z), rtol=0, atol=1e-5)


@pytest.mark.parametrize("wrong", [7, "mirror", ["reflect"], {}])
def test_another_mode_in_the_config_is_one_sentence(wrong, tmp_path):
    tiny("AutoencoderKL").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, PADDING_KEY: wrong}))
    expected = r"_padding_mode is .*, expected zeros, reflect or replicate\.$"
    for opening in (load_autoencoder, new_from_config, lambda path: adapt(AutoencoderKL.from_pretrained(path))):
        with pytest.raises(UserError, match=expected) as caught:
            opening(str(tmp_path))
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=expected):
        AutoencoderVAE.from_config({**OURS, PADDING_KEY: wrong})
    with pytest.raises(UserError, match=expected):
        adapt(tiny("AutoencoderKL")).set_padding_mode(wrong)


def test_zeros_are_recorded_only_where_another_mode_was():
    adapter = adapt(tiny("AutoencoderKL"))
    adapter.set_padding_mode("zeros")
    assert PADDING_KEY not in adapter.config
    before = adapter.model.encode(image()).latent_dist.mean
    adapter.set_padding_mode("reflect")
    adapter.set_padding_mode("zeros")
    assert adapter.config[PADDING_KEY] == "zeros"
    assert torch.equal(adapter.model.encode(image()).latent_dist.mean, before)


def test_images_too_small_to_be_reflected_are_refused():
    model = tiny("AutoencoderKL", block_out_channels=(8,) * 4, down_block_types=("DownEncoderBlock2D",) * 4,
                 up_block_types=("UpDecoderBlock2D",) * 4)  # fmt: skip
    adapter = adapt(model)
    adapter.check_image_size(1, 1, "it")
    adapter.set_padding_mode("replicate")
    adapter.check_image_size(1, 1, "it")
    adapter.set_padding_mode("reflect")
    adapter.check_image_size(16, 9, "it")
    assert adapter.reconstruct(image(9)).shape == (1, 3, 9, 9)
    with pytest.raises(UserError, match=r"it is too small for this AutoencoderKL.*: give at least 16 pixels a side"):
        adapter.check_image_size(64, 8, "it")
    with pytest.raises(RuntimeError):  # as it would be without
        adapter.reconstruct(image(8))
