"""ONNX files, run by onnxruntime at sizes that they were not traced with."""

import builtins
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AsymmetricAutoencoderKL, AutoencoderDC, AutoencoderTiny, ConsistencyDecoderVAE
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from support import tiny_diffusers
from support.tiny_exports import images, kl, vae, vqvae
from vae_plugin import AutoencoderVQVAE
from vae_plugin.autoencoders import adapt
from vae_plugin.errors import UserError
from vae_plugin.export import onnx_files, save_onnx

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.xdist_group("onnx")  # they share the files
pytest.importorskip("onnxscript")

SIZES = [(1, 1, 1), (2, 3, 7), (5, 4, 2)]  # batch, and places of the latent
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def tiny():
    torch.manual_seed(0)
    blocks = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    return AutoencoderTiny(**blocks, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1)).eval()


def dc():
    torch.manual_seed(0)
    sides = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in {
            "block_out_channels": (8, 8),
            "block_types": ("ResBlock", "EfficientViTBlock"),
            "layers_per_block": (1, 1),
            "qkv_multiscales": ((), (5,)),
        }.items()
    }
    return AutoencoderDC(latent_channels=4, attention_head_dim=4, **sides).eval()


LEVELS = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
CHEAP = {"block_out_channels": (8, 16), "mid_block_add_attention": False}
MODELS = {
    "kl": lambda: kl(**CHEAP, **LEVELS),
    "vae": lambda: vae(block_out_channels=(8,), likelihood="bernoulli"),
    "tiny": tiny,
    "dc": dc,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["AutoencoderKLHunyuanImage", "AutoencoderKLKVAE"])
def test_attention_without_heads_and_values_named_as_an_output_are_written(name, tmp_path):
    differences = save_onnx(tiny_diffusers.tiny(name), tmp_path / "onnx")
    assert differences.keys() == {"encoder.mean", "encoder.logvar", "decoder.image"}
    assert max(differences.values()) < 1e-4


def session(folder, part):
    return onnxruntime.InferenceSession(folder / f"{part}.onnx", providers=["CPUExecutionProvider"])


def run(opened, value):
    (name,) = [given.name for given in opened.get_inputs()]
    outputs = opened.run(None, {name: value.numpy()})
    return {o.name: torch.from_numpy(v) for o, v in zip(opened.get_outputs(), outputs, strict=True)}


@pytest.fixture(
    scope="module", params=["vae", *(pytest.param(n, marks=pytest.mark.slow) for n in ("kl", "tiny", "dc"))]
)
def continuous(request, tmp_path_factory):
    model, folder = MODELS[request.param](), tmp_path_factory.mktemp(request.param) / "out"
    return model, folder, save_onnx(model, folder)


@pytest.mark.slow
@torch.no_grad()
def test_any_batch_and_size(continuous):
    model, folder, differences = continuous
    encoder, decoder = session(folder, "encoder"), session(folder, "decoder")
    factor = adapt(model).spatial_compression_ratio
    for batch, height, width in SIZES:
        x = images(batch, height=factor * height, width=factor * width)
        found = run(encoder, x)
        encoded = model.encode(x)
        if hasattr(encoded, "latent_dist"):
            expected = {"mean": encoded.latent_dist.mean, "logvar": encoded.latent_dist.logvar}
        else:
            expected = {"latents": encoded[0]}
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name].shape == (batch, 4, height, width)
            torch.testing.assert_close(found[name], value, **CLOSE)
        z = next(iter(expected.values()))
        assert z.std() > 1e-3 or (height, width) == (1, 1)
        image = run(decoder, z)["image"]
        assert image.shape == x.shape
        torch.testing.assert_close(image, model.decode(z).sample, **CLOSE)
    assert differences.keys() == {*(f"encoder.{name}" for name in expected), "decoder.image"}
    assert all(0 <= value < 1e-4 for value in differences.values())
    assert sorted(path.name for path in folder.iterdir()) == ["decoder.onnx", "encoder.onnx"]


@pytest.mark.slow
@torch.no_grad()
def test_the_layout_of_optimum_in_half_precision(tmp_path):
    model = vae(block_out_channels=(8,), likelihood="logistic_mixture")
    save_onnx(model, tmp_path / "out", layout="optimum", dtype=torch.float16, opset=19)
    encoder, decoder = (tmp_path / "out" / f"vae_{part}" / "model.onnx" for part in ("encoder", "decoder"))
    x = images(2, height=5, width=3)
    found = run(onnxruntime.InferenceSession(encoder, providers=["CPUExecutionProvider"]), x.half())
    assert found.keys() == {"latent_parameters"}
    posterior = DiagonalGaussianDistribution(found["latent_parameters"].float())  # as optimum's ORTVaeEncoder reads it
    expected = model.encode(x).latent_dist
    torch.testing.assert_close(posterior.mean, expected.mean, rtol=0, atol=2e-2)
    torch.testing.assert_close(posterior.logvar, expected.logvar, rtol=0, atol=2e-2)
    opened = onnxruntime.InferenceSession(decoder, providers=["CPUExecutionProvider"])
    assert [given.name for given in opened.get_inputs()] == ["latent_sample"]
    z = posterior.mean.half()
    image = run(opened, z)["sample"]
    assert image.dtype == torch.float16
    torch.testing.assert_close(image.float(), model.decode(z.float()).sample, rtol=0, atol=2e-2)
    for file in (encoder, decoder):
        written = onnx.load(file)
        assert {each.version for each in written.opset_import if each.domain == ""} == {19}
        assert not [node.op_type for node in written.graph.node if "Sequence" in node.op_type]
        assert json.loads((file.parent / "config.json").read_text())["_class_name"] == "AutoencoderVAE"


@pytest.mark.slow
def test_what_the_files_say_of_themselves(continuous):
    model, folder, _ = continuous
    for part, given, shape in (("encoder", "image", ["batch", 3]), ("decoder", "latents", ["batch", 4])):
        opened = session(folder, part)
        metadata = opened.get_modelmeta().custom_metadata_map
        assert metadata["class"] == type(model).__name__
        assert metadata["spatial_compression_ratio"] == str(adapt(model).spatial_compression_ratio)
        assert float(metadata["scaling_factor"]) == model.config.scaling_factor
        (only,) = opened.get_inputs()
        assert (only.name, only.shape[:2]) == (given, shape)
        onnx.checker.check_model(folder / f"{part}.onnx")
        assert str(Path(onnx_files.__file__).parent).encode() not in (folder / f"{part}.onnx").read_bytes()


@pytest.mark.slow
@pytest.mark.slow
@torch.no_grad()
def test_codes(tmp_path):
    model = vqvae(**CHEAP)
    differences = save_onnx(model, tmp_path / "out")
    assert differences["encoder.indices"] == 0
    encoder, decoder = session(tmp_path / "out", "encoder"), session(tmp_path / "out", "decoder")
    # The last has more places than one tile of the nearest-code search, which a trace must not keep.
    for batch, height, width in [*SIZES, (2, 33, 17)]:
        x = images(batch, height=2 * height, width=2 * width)
        found, expected = run(encoder, x), model.encode(x)
        torch.testing.assert_close(found["latents"], expected.latents, **CLOSE)
        assert found["indices"].dtype == torch.int64
        assert found["indices"].shape == (batch, height, width)
        assert (found["indices"] == expected.indices).float().mean() > 0.99
        image = run(decoder, expected.latents)["image"]
        torch.testing.assert_close(image, model.decode(expected.latents).sample, **CLOSE)
    assert len(expected.indices.unique()) > 3
    plain = model.decode(expected.latents, force_not_quantize=True).sample
    assert (image - plain).abs().max() > 1e-2  # the decoder quantises


@pytest.mark.parametrize(
    ("layout", "encoded", "decoded"),
    [("plain", ("latents", "indices"), "image"), ("optimum", ("latent_sample",), "sample")],
)
def test_a_vq_model_is_exported_as_ours(layout, encoded, decoded, tmp_path, monkeypatch):
    """Without tracing it: what reaches the exporter is the converted model."""
    written = []

    def write(self, module, part, inputs, outputs, factor):
        written.append((type(module.model), outputs, factor, tuple(next(iter(inputs.values())).shape)))

    monkeypatch.setattr(onnx_files._Writer, "write", write)
    monkeypatch.setattr(onnx_files, "_compare", lambda *_: {})
    (tmp_path / "out" / "vae_encoder").mkdir(parents=True)
    save_onnx(vqvae().to_vq_model(), tmp_path / "out", overwrite=True, layout=layout)
    assert written == [
        (AutoencoderVQVAE, encoded, 4, (2, 3, 16, 24)),
        (AutoencoderVQVAE, (decoded,), 1, (2, 4, 4, 6)),
    ]


@pytest.mark.slow
def test_a_failed_check_leaves_nothing(continuous, tmp_path, monkeypatch):
    """Files of one model compared with another."""
    model, folder, _ = continuous

    def write(self, module, part, inputs, outputs, factor):
        (self.folder / part).write_bytes((folder / part).read_bytes())

    monkeypatch.setattr(onnx_files._Writer, "write", write)
    save_onnx(model, tmp_path / "same")
    with torch.no_grad():
        other = MODELS[{v().__class__.__name__: k for k, v in MODELS.items()}[type(model).__name__]]()
        [p for p in other.decoder.parameters() if p.ndim == 1][-1].add_(0.5)
    with pytest.raises(UserError, match=r"image of decoder.onnx differs from torch by [\d.]+, more than"):
        save_onnx(other, tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["same"]


def test_a_difference_that_is_not_a_number_is_a_failure(continuous):
    model, folder, _ = continuous
    x = images(1)
    name = session(folder, "encoder").get_outputs()[0].name
    with torch.no_grad():
        expected = {name: model.encode(x)[0].mean if name == "mean" else model.encode(x)[0]}
    assert onnx_files._compare(folder / "encoder.onnx", x, expected)
    with pytest.raises(UserError, match="by nan"):
        onnx_files._compare(folder / "encoder.onnx", x * np.nan, expected)
    with pytest.raises(UserError, match="of shape"):
        onnx_files._compare(folder / "encoder.onnx", x, {name: expected[name][..., :1]})


@torch.no_grad()
def test_an_mlp_has_files_for_its_own_size_and_any_batch(tmp_path):
    model = vae(network="mlp", sample_size=(8, 12), hidden_sizes=(6,), likelihood="bernoulli", latent_channels=3)
    save_onnx(model, tmp_path / "out")
    encoder, decoder = session(tmp_path / "out", "encoder"), session(tmp_path / "out", "decoder")
    assert encoder.get_inputs()[0].shape[1:] == [3, 8, 12]
    for batch in (1, 5):
        x = torch.rand(batch, 3, 8, 12) * 2 - 1
        found, posterior = run(encoder, x), model.encode(x).latent_dist
        torch.testing.assert_close(found["mean"], posterior.mean, **CLOSE)
        torch.testing.assert_close(found["logvar"], posterior.logvar, **CLOSE)
        image = run(decoder, posterior.mean)["image"]
        torch.testing.assert_close(image, model.decode(posterior.mean).sample, **CLOSE)


def test_what_cannot_be_exported_says_why(tmp_path):
    asymmetric = AsymmetricAutoencoderKL(
        down_block_out_channels=(8, 8), up_block_out_channels=(8, 8), norm_num_groups=4, **LEVELS
    )
    with torch.device("meta"):
        consistency = ConsistencyDecoderVAE()
    for model, sentence in (
        (asymmetric, "AsymmetricAutoencoderKL cannot be exported to ONNX: its decoder needs an image and a mask"),
        (consistency, r"ConsistencyDecoderVAE is not supported: it must be one of .* its decoder is a diffusion model"),
    ):
        with pytest.raises(UserError, match=sentence):
            save_onnx(model, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_files, "find_spec", lambda name: None if name == "onnxscript" else builtins)
    with pytest.raises(UserError, match=r"ONNX files need onnxscript: pip install 'vae-plugin\[onnx\]'"):
        save_onnx(kl(), tmp_path / "out")


def test_what_the_exporter_says_is_one_sentence(tmp_path, monkeypatch):
    def fail(*args, **options):
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(UserError, match=r"^torch cannot export the encoder of this AutoencoderKL: first line$"):
        save_onnx(kl(), tmp_path / "out")
    assert not list(tmp_path.iterdir())
