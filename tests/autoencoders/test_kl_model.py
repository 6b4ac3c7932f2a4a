"""`AutoencoderVAE` from and to the `AutoencoderKL` of diffusers."""

import pytest
import torch
from diffusers import AsymmetricAutoencoderKL, AutoencoderKL

from support.tiny_exports import shuffled
from vae_plugin import AutoencoderVAE
from vae_plugin.autoencoders.kl_model import ARCHITECTURE, DESCRIPTION

LEVELS = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
TINY = {"block_out_channels": (8, 16), "norm_num_groups": 4, "sample_size": 16}
CONFIGS = {
    "default": {},
    "no 1x1 convolutions, SD3's numbers": {
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "latent_channels": 3,
        "scaling_factor": 1.5305,
        "shift_factor": 0.0609,
        "force_upcast": False,
    },
    "one 1x1 convolution, gray, no attention": {
        "use_quant_conv": False,
        "in_channels": 1,
        "out_channels": 1,
        "mid_block_add_attention": False,
        "layers_per_block": 2,
    },
    "another activation, statistics per channel, not square": {
        "act_fn": "gelu",
        "latents_mean": [0.1, -0.2, 0.3, 0.4],
        "latents_std": [1.0, 2.0, 0.5, 1.5],
        "sample_size": [16, 24],
        "norm_num_groups": 8,
    },
}
every_config = pytest.mark.parametrize("config", [pytest.param(config, id=name) for name, config in CONFIGS.items()])


def kl(**config):
    torch.manual_seed(0)
    return shuffled(AutoencoderKL(**{**LEVELS, **TINY, **config}))


def vae(**config):
    torch.manual_seed(0)
    return shuffled(AutoencoderVAE(**{**TINY, **config}))


def assert_same(ours, theirs):
    """Moments, their mode and samples, and images, to the bit."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(2, theirs.config.in_channels, 16, 24, generator=generator) * 2 - 1
    x = x.to(theirs.dtype)
    with torch.no_grad():
        a, b = ours.encode(x).latent_dist, theirs.encode(x).latent_dist
        assert torch.equal(a.mode(), b.mode())
        assert torch.equal(a.parameters, b.parameters)
        z = torch.randn(b.mean.shape, generator=generator).to(theirs.dtype) * 9
        decoded = theirs.decode(z).sample
        assert decoded.abs().max() > 1  # so that a clamp would show
        assert torch.equal(ours.decode(z).sample, decoded)
        assert torch.equal(ours(x).sample, theirs(x).sample)


@every_config
@pytest.mark.parametrize("changes", [{}, {"likelihood": "laplace", "sigma": 0.1}], ids=["gaussian", "laplace"])
def test_from_autoencoder_kl(config, changes):
    theirs = kl(**config)
    with torch.no_grad():
        theirs.decoder.conv_out.weight.mul_(5)
    ours = AutoencoderVAE.from_autoencoder_kl(theirs, **changes)
    assert_same(ours, theirs)
    for name in (*ARCHITECTURE, *DESCRIPTION):
        assert ours.config[name] == theirs.config[name], name
    assert ours.config.shift_factor == config.get("shift_factor", 0.0)
    assert ours.config.likelihood == changes.get("likelihood", "gaussian")
    assert not ours.training


@every_config
def test_there_and_back(config, tmp_path):
    theirs = kl(**config)
    back = AutoencoderVAE.from_autoencoder_kl(theirs).to_autoencoder_kl()
    assert type(back) is AutoencoderKL
    assert {name: value for name, value in back.config.items() if value != theirs.config.get(name)} == (
        {} if "shift_factor" in config else {"shift_factor": 0.0}
    )
    assert back.state_dict().keys() == theirs.state_dict().keys()
    for name, value in theirs.state_dict().items():
        assert torch.equal(back.state_dict()[name], value), name


@pytest.mark.parametrize("options", [{}, {"use_quant_conv": False, "likelihood": "laplace"}, {"in_channels": 1}])
@pytest.mark.parametrize("standardized", [False, True])
def test_to_autoencoder_kl_and_its_folder(options, standardized, tmp_path):
    ours = vae(**options, scaling_factor=0.3, shift_factor=0.2, sigma=0.1)
    with torch.no_grad():
        ours.decoder.conv_out.weight.mul_(5)
    if standardized:
        before = ours.encode(torch.zeros(1, ours.config.in_channels, 16, 16)).latent_dist.mean
        ours.standardize_latents(torch.tensor([0.5, -1.0, 0.2, 0.0]), torch.tensor([1.0, 2.0, 0.5, 3.0]))
        after = ours.encode(torch.zeros(1, ours.config.in_channels, 16, 16)).latent_dist.mean
        assert not torch.equal(before, after)
    theirs = ours.to_autoencoder_kl()
    assert not theirs.training
    assert_same(ours, theirs)
    theirs.save_pretrained(tmp_path)
    opened = AutoencoderKL.from_pretrained(tmp_path)
    assert_same(ours, opened)
    for name in ("scaling_factor", "shift_factor", "latents_mean", "latents_std"):
        assert opened.config[name] == ours.config[name]
    assert_same(AutoencoderVAE.from_autoencoder_kl(opened), opened)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_precision_and_mode_stay(dtype):
    theirs = kl().to(dtype).train()
    ours = AutoencoderVAE.from_autoencoder_kl(theirs)
    assert ours.dtype == dtype
    assert ours.training
    back = ours.to_autoencoder_kl()
    assert back.dtype == dtype
    assert back.training
    assert_same(ours.eval(), theirs.eval())
    assert_same(ours, back.eval())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a second device")
def test_the_device_stays():
    ours = AutoencoderVAE.from_autoencoder_kl(kl().to("cuda"))
    assert ours.device.type == "cuda"
    assert ours.to_autoencoder_kl().device.type == "cuda"


def test_the_copies_are_independent():
    theirs = kl()
    ours = AutoencoderVAE.from_autoencoder_kl(theirs)
    back = ours.to_autoencoder_kl()
    before = theirs.encoder.conv_in.weight.clone()
    with torch.no_grad():
        ours.encoder.conv_in.weight.zero_()
    assert torch.equal(theirs.encoder.conv_in.weight, before)
    assert torch.equal(back.encoder.conv_in.weight, before)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (
            {"down_block_types": ("DownEncoderBlock2D", "AttnDownEncoderBlock2D")},
            "blocks AttnDownEncoderBlock2D, DownEncoderBlock2D, UpDecoderBlock2D: only",
        ),
        ({"up_block_types": ("AttnUpDecoderBlock2D", "UpDecoderBlock2D")}, "blocks AttnUpDecoderBlock2D"),
        ({"down_block_types": ("DownEncoderBlock2D",)}, "another number of blocks"),
        ({"out_channels": 4}, "makes 4 channels of 3"),
    ],
)
def test_another_architecture_is_refused(config, sentence):
    with pytest.raises(ValueError, match=sentence):
        AutoencoderVAE.from_autoencoder_kl(kl(**config))


def test_another_class_is_refused():
    asymmetric = AsymmetricAutoencoderKL(
        down_block_out_channels=(8, 8), up_block_out_channels=(8, 8), norm_num_groups=4, **LEVELS
    )
    with pytest.raises(ValueError, match="got an AsymmetricAutoencoderKL: only an AutoencoderKL"):
        AutoencoderVAE.from_autoencoder_kl(asymmetric)


def test_fused_projections_are_refused_both_ways():
    theirs = kl()
    ours = AutoencoderVAE.from_autoencoder_kl(theirs)
    for model, convert in ((theirs, AutoencoderVAE.from_autoencoder_kl), (ours, AutoencoderVAE.to_autoencoder_kl)):
        model.fuse_qkv_projections()
        with pytest.raises(ValueError, match="unfuse its projections first"):
            convert(model)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"act_fn": "gelu"}, "act_fn cannot be changed: accepted are sample_size"),
        ({"network": "mlp", "layers_per_block": 2}, "layers_per_block, network cannot be changed"),
        ({"likelihood": "bernoulli"}, "'bernoulli': the decoder of an AutoencoderKL gives the mean"),
        ({"likelihood": "logistic_mixture"}, "one of gaussian, laplace"),
    ],
)
def test_changes_of_what_the_weights_mean_are_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        AutoencoderVAE.from_autoencoder_kl(kl(), **changes)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"network": "mlp"}, "a network of kind 'mlp'"),
        ({"likelihood": "bernoulli"}, "a bernoulli likelihood"),
        ({"likelihood": "logistic_mixture"}, "a logistic_mixture likelihood"),
        ({"network": "mlp", "likelihood": "bernoulli"}, "'mlp', nor a bernoulli likelihood"),
    ],
)
def test_what_an_autoencoder_kl_lacks_is_refused(options, sentence):
    with pytest.raises(ValueError, match=f"an AutoencoderKL cannot have .*{sentence}"):
        vae(**options).to_autoencoder_kl()


@every_config
@pytest.mark.parametrize("changes", [{}, {"likelihood": "laplace", "sigma": "learned"}], ids=["gaussian", "laplace"])
def test_autoencoder_kl_opens_our_folder(config, changes, tmp_path):
    ours = AutoencoderVAE.from_autoencoder_kl(kl(**config), **changes)
    ours.save_pretrained(tmp_path)
    assert_same(ours, AutoencoderKL.from_pretrained(tmp_path))


@pytest.mark.parametrize(
    "different", [{"likelihood": "bernoulli"}, {"likelihood": "logistic_mixture"}, {"network": "mlp"}]
)
def test_autoencoder_kl_does_not_open_what_it_would_decode_otherwise(different, tmp_path):
    vae(**different).save_pretrained(tmp_path)
    with pytest.raises(TypeError):
        AutoencoderKL.from_pretrained(tmp_path)
