"""`AutoencoderVQVAE` from and to the `VQModel` of diffusers."""

import json

import pytest
import torch
import torch.nn.functional as F
from diffusers import VQModel

from vae_plugin import AutoencoderVQVAE
from vae_plugin.autoencoders import load_autoencoder
from vae_plugin.models.vqvae import VQVAE

BLOCKS = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
TINY = {"block_out_channels": (8, 16), "norm_num_groups": 4, "sample_size": 16, "num_vq_embeddings": 32}
CONFIGS = {
    "default": {"latent_channels": 4},
    "codes of another width": {"latent_channels": 4, "vq_embed_dim": 6},
    "two layers, gray, no attention": {
        "latent_channels": 3,
        "layers_per_block": 2,
        "in_channels": 1,
        "out_channels": 1,
        "mid_block_add_attention": False,
    },
    "looked up": {"latent_channels": 8, "lookup_from_codebook": True, "force_upcast": True, "scaling_factor": 0.7},
    "three levels": {
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "block_out_channels": (8, 8, 16),
        "act_fn": "gelu",
    },
}
every_config = pytest.mark.parametrize("config", [pytest.param(config, id=name) for name, config in CONFIGS.items()])


def vq_model(**config):
    torch.manual_seed(0)
    model = VQModel(**{**BLOCKS, **TINY, **config}).eval()
    with torch.no_grad():  # its own initialisation puts all codes at about zero
        model.quantize.embedding.weight.normal_()
        model.quant_conv.weight.mul_(3)
    return model


def tiny(**config):
    torch.manual_seed(0)
    return AutoencoderVQVAE(**{**TINY, **config}).eval()


def images(channels, size=16):
    return torch.rand(2, channels, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def assert_same(ours, theirs):
    """Latents, codes, and images from latents, codes, and unquantised latents."""
    x = images(theirs.config.in_channels)
    z = theirs.encode(x).latents
    encoded = ours.encode(x)
    assert torch.equal(encoded.latents, z)
    indices = theirs.quantize(z)[2][2].reshape(encoded.indices.shape)
    assert torch.equal(encoded.indices, indices)
    assert len(indices.unique()) > 3
    torch.testing.assert_close(ours.decode(z).sample, theirs.decode(z).sample)
    torch.testing.assert_close(ours(x).sample, theirs(x).sample)
    if theirs.config.lookup_from_codebook:
        shape = (*indices.shape, z.shape[1])
        expected = theirs.decode(indices, force_not_quantize=True, shape=shape).sample
        torch.testing.assert_close(ours.decode(indices, force_not_quantize=True, shape=shape).sample, expected)
    else:
        expected = theirs.decode(z, force_not_quantize=True).sample
        torch.testing.assert_close(ours.decode(z, force_not_quantize=True).sample, expected)


@every_config
@pytest.mark.parametrize("changes", [{}, {"quantizer_type": "vq", "likelihood": "laplace"}])
def test_from_vq_model(config, changes):
    theirs = vq_model(**config)
    ours = AutoencoderVQVAE.from_vq_model(theirs, **changes)
    assert not ours.training
    assert_same(ours, theirs)
    for name in ("scaling_factor", "force_upcast", "sample_size", "num_vq_embeddings"):
        assert ours.config[name] == theirs.config[name]


@every_config
def test_there_and_back(config):
    theirs = vq_model(**config)
    back = AutoencoderVQVAE.from_vq_model(theirs).to_vq_model()
    assert type(back) is VQModel
    assert back.state_dict().keys() == theirs.state_dict().keys()
    for name, value in theirs.state_dict().items():
        assert torch.equal(back.state_dict()[name], value), name
    changed = {name for name in theirs.config if back.config[name] != theirs.config[name]}
    assert changed <= {"vq_embed_dim", "_use_default_values"}  # ours writes down the width of a code


@every_config
def test_saved_as_it_came(config, tmp_path):
    theirs = vq_model(**config)
    theirs.save_pretrained(tmp_path / "before")
    load_autoencoder(str(tmp_path / "before")).save(tmp_path / "after")
    before, after = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("before", "after"))
    assert after == before


@pytest.mark.parametrize("options", [{}, {"quantizer_type": "vq"}, {"encoder_out_channels": 7, "layers_per_block": 2}])
@pytest.mark.parametrize("trained", [False, True])
def test_to_vq_model_and_its_folder(options, trained, tmp_path):
    ours = tiny(**options)
    if trained:
        VQVAE.forward(ours.train(), images(3))
        ours.eval()
    theirs = ours.to_vq_model()
    assert not theirs.training
    theirs.save_pretrained(tmp_path)
    theirs = VQModel.from_pretrained(tmp_path)
    x = images(3)
    z = ours.encode(x).latents
    torch.testing.assert_close(theirs.encode(x).latents, z)
    assert torch.equal(theirs.quantize(z)[2][2].reshape(2, 8, 8), ours.encode(x).indices)
    torch.testing.assert_close(theirs(x).sample, ours(x).sample)
    assert_same(AutoencoderVQVAE.from_vq_model(theirs), theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_saved_vq_model_is_converted_in_its_precision_and_saved_as_ours(dtype, tmp_path):
    vq_model(latent_channels=4).save_pretrained(tmp_path / "theirs")
    theirs = VQModel.from_pretrained(tmp_path / "theirs", torch_dtype=dtype)
    ours = AutoencoderVQVAE.from_vq_model(theirs)
    assert ours.dtype == dtype
    assert ours.quantizer.codebook.dtype == torch.float32
    assert ours(images(3).to(dtype)).sample.dtype == dtype
    ours.save_pretrained(tmp_path / "ours")
    loaded = AutoencoderVQVAE.from_pretrained(tmp_path / "ours", torch_dtype=dtype)
    x = images(3).to(dtype)
    torch.testing.assert_close(loaded(x).sample, ours(x).sample)
    assert ours.to_vq_model().dtype == dtype


def test_a_converted_codebook_is_trained_from_where_it_is():
    theirs = vq_model(latent_channels=4)
    ours = AutoencoderVQVAE.from_vq_model(theirs, dead_code_threshold=0.0).train()
    x = images(3)
    z = ours.encode(x).latents.movedim(1, -1).flatten(0, 2)
    before = ours.quantizer.codebook.clone()
    chosen = F.one_hot(ours.encode(x).indices.flatten(), 32).float()
    VQVAE.forward(ours, x)
    # Moving averages that begin with each code chosen once, after one step.
    counts = 0.99 + 0.01 * chosen.sum(0)
    sums = 0.99 * before + 0.01 * chosen.T @ z.detach()
    torch.testing.assert_close(ours.quantizer.codebook, sums / counts[:, None], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"norm_type": "spatial", "block_out_channels": (32, 32)}, "norm_type 'spatial'.*only 'group'"),
        (
            {"down_block_types": ("DownEncoderBlock2D", "AttnDownEncoderBlock2D")},
            "blocks AttnDownEncoderBlock2D, DownEncoderBlock2D, UpDecoderBlock2D",
        ),
        ({"up_block_types": ("AttnUpDecoderBlock2D", "UpDecoderBlock2D")}, "blocks AttnUpDecoderBlock2D"),
        ({"out_channels": 4}, "makes 4 channels of 3"),
    ],
)
def test_another_architecture_is_refused(config, sentence):
    with pytest.raises(ValueError, match=sentence):
        AutoencoderVQVAE.from_vq_model(vq_model(**config))


@pytest.mark.parametrize(
    "changes",
    [
        {"quantizer_type": "fsq", "fsq_levels": (4, 4, 2)},
        {"quantizer_type": "lfq"},
        {"quantizer_type": "rvq"},
        {"quantizer_type": "simvq"},
        {"vq_embed_dim": 2},
        {"num_vq_embeddings": 64},
        {"likelihood": "logistic_mixture"},
        {"layers_per_block": 2},
        {"use_quant_conv": False},
        {"latent_channels": 5},
    ],
)
def test_changes_that_the_weights_do_not_fit_are_refused(changes):
    with pytest.raises(ValueError, match=f"{next(iter(changes))}.*do not fit"):
        AutoencoderVQVAE.from_vq_model(vq_model(latent_channels=4), **changes)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"quantizer_type": "fsq", "fsq_levels": (4, 4, 2)}, "a quantiser but 'ema' or 'vq'"),
        ({"quantizer_type": "lfq"}, "a quantiser but"),
        ({"quantizer_type": "rvq"}, "a quantiser but"),
        ({"quantizer_type": "simvq"}, "a quantiser but"),
        ({"codebook_distance": "cosine"}, "with Euclidean distance"),
        ({"vq_embed_dim": 2}, "vq_embed_dim = latent_channels"),
        ({"likelihood": "bernoulli"}, "a bernoulli likelihood"),
        ({"likelihood": "logistic_mixture"}, "a logistic_mixture likelihood"),
        ({"use_quant_conv": False}, "without 1x1 convolutions"),
        ({"use_post_quant_conv": False}, "without 1x1 convolutions"),
        ({"shift_factor": 0.1}, "a shift_factor"),
        ({"image_range": (0.0, 1.0)}, r"an image_range of \(0.0, 1.0\)"),
        ({"shift_factor": 0.1, "vq_embed_dim": 2}, "vq_embed_dim = latent_channels, nor a shift_factor"),
    ],
)
def test_what_a_vq_model_lacks_is_refused(options, sentence):
    with pytest.raises(ValueError, match=f"a VQModel cannot have .*{sentence}"):
        tiny(**options).to_vq_model()
