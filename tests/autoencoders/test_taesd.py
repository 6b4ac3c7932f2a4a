"""TAESD's own files, of its own networks, open as the class that has their layers."""

import pickle
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from support.taesd_net import taesd
from vae_plugin.autoencoders import load_autoencoder
from vae_plugin.cli import main
from vae_plugin.errors import UserError

WIDTH = 8
KINDS = {"taesd": 4, "taef1": 16, "taef2": 32}


def write(folder, name, channels=None, ending=".safetensors", dtype=torch.float32, seed=0):
    """The files of a network with random weights, and its two halves."""
    torch.manual_seed(seed)
    halves = taesd(channels or KINDS[name], WIDTH, pooled=name == "taef2")
    folder.mkdir(exist_ok=True)
    for part, net in zip(("encoder", "decoder"), halves, strict=True):
        state = {key: value.to(dtype) for key, value in net.to(dtype).float().state_dict().items()}
        file = folder / f"{name}_{part}{ending}"
        save_file(state, file) if ending == ".safetensors" else torch.save(state, file)
    return halves


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "ending"), [("taesd", ".pth"), ("taef1", ".safetensors"), ("taef2", ".pth"), ("taef2", ".safetensors")]
)
def test_a_pair_gives_what_its_network_gives(name, ending, tmp_path):
    encoder, decoder = write(tmp_path, name, ending=ending, dtype=torch.float16)
    x = torch.rand(2, 3, 16, 24)
    for source in (tmp_path, tmp_path / f"{name}_decoder{ending}"):
        adapter = load_autoencoder(source)
        assert adapter.class_name == ("AutoencoderTinyFlux2" if name == "taef2" else "AutoencoderTiny")
        assert adapter.model.dtype == torch.float32
        z = adapter.latents(x * 2 - 1)
        torch.testing.assert_close(z, encoder(x))
        torch.testing.assert_close(adapter.decode(3 * z), decoder(3 * z) * 2 - 1)  # the clamp is felt
        assert torch.equal(adapter.pipeline_latents(z), z)
        assert adapter.config["_name_or_path"] == str(source)


def test_safetensors_are_preferred_and_endings_may_differ(tmp_path):
    write(tmp_path, "taesd", ending=".pth", seed=1)
    write(tmp_path, "taesd")
    (tmp_path / "taesd_decoder.safetensors").unlink()
    read = load_autoencoder(tmp_path).model.state_dict()
    first, second = ([v for net in taesd_of(seed) for v in net.state_dict().values()] for seed in (0, 1))
    assert torch.equal(read["encoder.layers.0.weight"], first[0])
    assert torch.equal(read["decoder.layers.18.bias"], second[-1])


def taesd_of(seed):
    torch.manual_seed(seed)
    return taesd(4, WIDTH)


def test_a_folder_of_several_models_asks_for_one(tmp_path):
    write(tmp_path, "taesd")
    write(tmp_path, "taef1")
    with pytest.raises(UserError, match=r"several models in TAESD's files: taef1, taesd\. Name one .*taef1_encoder"):
        load_autoencoder(tmp_path)
    assert load_autoencoder(tmp_path / "taesd_decoder.safetensors").latent_channels == 4
    assert load_autoencoder(tmp_path / "taef1_decoder.safetensors").latent_channels == 16


def renamed(folder, old, new):
    (folder / old).rename(folder / new)


FAULTS = {
    "no decoder": (
        lambda folder: (folder / "taesd_decoder.safetensors").unlink(),
        "taesd_encoder.safetensors is the encoder of a pair .* there is no taesd_decoder beside it: put both",
    ),
    "swapped": (
        lambda folder: (renamed(folder, "taesd_encoder.safetensors", "x"), write(folder / "b", "taesd"),
                        renamed(folder, "taesd_decoder.safetensors", "taesd_encoder.safetensors"),
                        renamed(folder, "x", "taesd_decoder.safetensors")),
        "have other layers than TAESD's code gives them",
    ),
    "another decoder": (
        lambda folder: (write(folder / "b", "taef1"),
                        renamed(folder, "b/taef1_decoder.safetensors", "taesd_decoder.safetensors")),
        "do not belong together: the encoder gives latents of 4 channels, and the decoder takes 16",
    ),
    "a pooled decoder": (
        lambda folder: (write(folder / "b", "taef2", channels=4),
                        renamed(folder, "b/taef2_decoder.safetensors", "taesd_decoder.safetensors")),
        "have other layers than TAESD's code gives them: give those of taesd, taesdxl",
    ),
    "damaged": (
        lambda folder: (folder / "taesd_decoder.safetensors").write_bytes(b"\0" * 40),
        "taesd_decoder.safetensors is damaged, or no safetensors file",
    ),
    "NaN": (
        lambda folder: edited(folder / "taesd_decoder.safetensors", {"1.bias": torch.full((WIDTH,), float("nan"))}),
        "hold NaN or infinity .decoder.layers.0.bias.: download them again",
    ),
    "whole numbers": (
        lambda folder: edited(folder / "taesd_decoder.safetensors", {"1.bias": torch.ones(WIDTH, dtype=torch.int8)}),
        "1.bias in .* are no floating-point numbers",
    ),
    "a layer too many": (
        lambda folder: edited(folder / "taesd_decoder.safetensors", {"3.conv.6.weight": torch.ones(1)}),
        "have other layers than TAESD's code gives them",
    ),
    "no convolutions": (
        lambda folder: save_file({"3.conv.0.weight": torch.ones(1)}, folder / "taesd_decoder.safetensors"),
        "do not have the layers of TAESD",
    ),
}  # fmt: skip


def edited(file, changes):
    save_file({**load_file(file), **changes}, file)


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_pair_is_one_sentence(fault, tmp_path):
    write(tmp_path, "taesd")
    spoil, sentence = FAULTS[fault]
    spoil(tmp_path)
    with pytest.raises(UserError, match=sentence) as caught:
        load_autoencoder(tmp_path / "taesd_encoder.safetensors" if fault == "swapped" else tmp_path)
    assert "\n" not in str(caught.value)
    assert "vae-plugin-taesd-" not in str(caught.value)


class Runs:
    """A pickle that runs code when it is opened."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (Path.touch, (self.file,))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (lambda file: {"1.weight": Runs(file)}, "could run code"),
        (lambda file: [torch.ones(1)], "does not hold tensors by name alone"),
        (lambda file: {"1.weight": "text"}, "does not hold tensors by name alone"),
        (lambda file: {1: torch.ones(1)}, "does not hold tensors by name alone"),
        (lambda file: {"1.weight": torch.eye(2).to_sparse()}, "does not hold tensors by name alone"),
    ],
)
def test_a_pickle_of_anything_else_is_refused_and_runs_nothing(content, sentence, tmp_path):
    write(tmp_path, "taesd", ending=".pth")
    made = content(tmp_path / "ran")
    torch.save(made, tmp_path / "taesd_decoder.pth")
    with pytest.raises(UserError, match=sentence):
        load_autoencoder(tmp_path)
    (tmp_path / "taesd_decoder.pth").write_bytes(pickle.dumps(Runs(tmp_path / "ran")))
    with pytest.raises(UserError, match="could run code"):
        load_autoencoder(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_is_left_closed_where_torch_cannot_open_it_safely(tmp_path, monkeypatch):
    write(tmp_path, "taesd", ending=".pth")
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion("2.9.1"))
    with pytest.raises(UserError, match=r"torch 2\.9\.1 cannot open safely: give the \.safeten"):
        load_autoencoder(tmp_path)
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion("2.13.0+cpu"))
    assert load_autoencoder(tmp_path).latent_channels == 4


def test_other_pickles_and_other_safetensors_are_as_before(tmp_path):
    torch.save({"0.weight": torch.ones(1)}, tmp_path / "model.pth")
    with pytest.raises(UserError, match="a pickle can run code"):
        load_autoencoder(tmp_path / "model.pth")
    save_file({"decoder.conv_in.weight": torch.ones(1)}, tmp_path / "full_encoder_small_decoder.safetensors")
    with pytest.raises(UserError, match="a decoder without its encoder"):
        load_autoencoder(tmp_path / "full_encoder_small_decoder.safetensors")
    with pytest.raises(UserError, match="there is no config"):
        load_autoencoder(tmp_path)


def test_what_such_files_do_not_have_is_refused(tmp_path):
    write(tmp_path, "taesd")
    file = tmp_path / "taesd_encoder.safetensors"
    for source, given in ((tmp_path, {"variant": "fp16"}), (file, {"variant": "fp16"}), (file, {"subfolder": "vae"}),
                          (file, {"config": "config.json"})):  # fmt: skip
        with pytest.raises(UserError, match=f"{next(iter(given))} .* has no effect on .*TAESD"):
            load_autoencoder(source, **given)


def test_a_pair_is_reconstructed_and_exported_as_it_came(tmp_path):
    halves = taesd(32, pooled=True)
    for part, net in zip(("encoder", "decoder"), halves, strict=True):
        save_file(net.state_dict(), tmp_path / f"taef2_{part}.safetensors")
    Image.new("RGB", (16, 16), "red").save(tmp_path / "red.png")
    words = ["export", str(tmp_path), str(tmp_path / "out"), "--format", "taesd", "--taesd_name", "taef2"]
    assert not main(words)
    for part in ("encoder", "decoder"):
        old, new = (load_file(folder / f"taef2_{part}.safetensors") for folder in (tmp_path, tmp_path / "out"))
        assert all(torch.equal(old[key], new[key]) for key in old)
        assert old.keys() == new.keys()
    words = ["reconstruct", str(tmp_path), str(tmp_path / "red.png"), "--output_dir", str(tmp_path / "again")]
    assert not main(words)
    assert [file.name for file in (tmp_path / "again").iterdir()] == ["red-reconstruction.png"]
