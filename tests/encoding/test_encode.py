"""`vae-plugin encode`: against the model itself on images that PIL prepared, and after kills."""

from __future__ import annotations

import errno
import io
import json
import os
import tarfile
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
import webdataset
from PIL import Image

from support.encodable import COUNT, DAMAGED, contents, run
from support.kills import killed_at
from vae_plugin import AutoencoderVAE, AutoencoderVQVAE
from vae_plugin.datasets import LatentDataset
from vae_plugin.encoding import run as encoding_run


def prepared(path: Path) -> torch.Tensor:
    """The centre square of a 24 x 16 image in [-1, 1], by PIL alone."""
    pixels = np.asarray(Image.open(path).crop((4, 0, 20, 16)))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 127.5 - 1


def expected(model: Path, photos: Path, mirrored: bool = False) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Name -> mean and log-variance of every image that can be read."""
    vae, found = AutoencoderVAE.from_pretrained(model).eval(), {}
    for path in sorted(photos.rglob("*.png")):
        if path.name != f"{DAMAGED:02d}.png":
            x = prepared(path)
            with torch.no_grad():
                q = vae.encode(x.flip(-1) if mirrored else x).latent_dist
            found[path.relative_to(photos).as_posix()] = q.mean[0], q.logvar[0]
    return found


@pytest.mark.parametrize("layout", ["webdataset", "parquet"])
def test_mean_and_variance_are_those_of_the_model(layout, models, photos, tmp_path, capsys):
    words = ["--format", layout, "--shard_size", "4", "--flips", "--batch_size", "3"]
    assert run(models / "vae", photos, tmp_path / "out", *words) == 0
    shown = capsys.readouterr()
    assert f"the latents of {COUNT - 1} images (posterior)" in shown.out
    assert "images/s" in shown.err
    assert f"1 image(s) could not be read and were left out: cats/{DAMAGED:02d}.png" in shown.err
    found = LatentDataset(tmp_path / "out")
    plain, mirrored = (expected(models / "vae", photos, flip) for flip in (False, True))
    assert [item["name"] for item in found] == list(plain)
    assert [item["number"] for item in found] == [number for number in range(COUNT) if number != DAMAGED]
    for item in found:
        assert item["label"] == int(item["name"].startswith("dogs"))
        for flip, model in (("", plain), ("_flip", mirrored)):
            mean, logvar = model[item["name"]]
            torch.testing.assert_close(item["mean" + flip], mean, rtol=0, atol=1e-5)
            torch.testing.assert_close(item["logvar" + flip], logvar, rtol=0, atol=1e-5)
            torch.testing.assert_close(item["latents" + flip], item["mean" + flip])
    manifest = json.loads((tmp_path / "out" / "latents.json").read_text())
    assert manifest["labels"]["classes"] == ["cats", "dogs"]
    assert list(manifest["left_out"]) == [f"cats/{DAMAGED:02d}.png"]
    assert manifest["images"] == COUNT - 1
    assert manifest["images_of_shards"] == [4, 3, 3]
    assert (manifest["scaled"], manifest["resolution"], manifest["complete"]) == (False, 16, True)
    assert str(tmp_path) not in json.dumps(manifest)


def test_samples_are_drawn_with_the_variance_and_their_statistics_are_beside(models, photos, tmp_path):
    assert run(models / "vae", photos, tmp_path / "q") == 0
    assert run(models / "vae", photos, tmp_path / "z", "--content", "samples", "--seed", "5") == 0
    q, z = LatentDataset(tmp_path / "q"), LatentDataset(tmp_path / "z")
    noise = torch.stack([(b["latents"] - a["mean"]) / (0.5 * a["logvar"]).exp() for a, b in zip(q, z, strict=True)])
    assert abs(noise.mean()) < 0.1  # of 1,280 numbers
    assert noise.std() == pytest.approx(1, abs=0.1)
    assert len({value.item() for value in noise[:, 0, 0, 0]}) == len(noise)  # no two images have the same
    values = torch.stack([item["latents"] for item in z]).double()
    for name, statistic in (("mean", values.mean((0, 2, 3))), ("std", values.std((0, 2, 3), correction=0))):
        assert z.manifest["statistics"][name] == pytest.approx(statistic.tolist(), rel=1e-6)
    drawn = LatentDataset(tmp_path / "q", torch.Generator().manual_seed(0))
    first, again = drawn[0]["latents"], drawn[0]["latents"]
    assert not torch.equal(first, again)
    assert not torch.equal(first, drawn[0]["mean"])


def test_indices_of_a_codebook_are_those_of_the_model(models, photos, tmp_path):
    assert run(models / "vq", photos, tmp_path / "out") == 0
    model = AutoencoderVQVAE.from_pretrained(models / "vq").eval()
    for item in LatentDataset(tmp_path / "out"):
        with torch.no_grad():
            encoded = model.encode(prepared(photos / item["name"]))
        assert torch.equal(item["indices"], encoded.indices[0])
        assert "latents" not in item
    assert run(models / "vq", photos, tmp_path / "z", "--content", "samples", "--format", "parquet") == 0
    for item in LatentDataset(tmp_path / "z"):
        with torch.no_grad():
            torch.testing.assert_close(item["latents"], model.encode(prepared(photos / item["name"])).latents[0])


def test_scaled_latents_are_those_that_pipelines_see(models, photos, tmp_path):
    model = AutoencoderVAE.from_pretrained(models / "vae")
    model.register_to_config(scaling_factor=0.5, shift_factor=0.25)
    model.save_pretrained(tmp_path / "model")
    for words in ([], ["--scaled"]):
        assert run(tmp_path / "model", photos, tmp_path / f"z{len(words)}", "--content", "samples", *words) == 0
    raw, scaled = LatentDataset(tmp_path / "z0"), LatentDataset(tmp_path / "z1")
    assert (raw.manifest["scaled"], scaled.manifest["scaled"]) == (False, True)
    assert raw.manifest["latent_scaling"] == {"scaling_factor": 0.5, "shift_factor": 0.25}
    for a, b in zip(raw, scaled, strict=True):
        torch.testing.assert_close((a["latents"] - 0.25) * 0.5, b["latents"])


def test_libraries_read_the_shards(models, photos, tmp_path):
    for layout in ("webdataset", "parquet"):
        words = ["--format", layout, "--shard_size", "4", "--dtype", "float16"]
        assert run(models / "vae", photos, tmp_path / layout, *words) == 0
    ours = list(LatentDataset(tmp_path / "webdataset"))
    tars = sorted(map(str, (tmp_path / "webdataset").glob("*.tar")))
    cache = str(tmp_path / "cache")
    samples = list(datasets.load_dataset("webdataset", data_files={"train": tars}, split="train", cache_dir=cache))
    by_library = list(webdataset.WebDataset(tars, shardshuffle=False, empty_check=False).decode())
    data_dir = str(tmp_path / "parquet")
    rows = datasets.load_dataset("parquet", data_dir=data_dir, split="train", cache_dir=cache).with_format("numpy")
    assert len(samples) == len(by_library) == len(rows) == len(ours)
    for item, sample, raw, row in zip(ours, samples, by_library, rows, strict=True):
        for read in (sample, raw):
            assert read["json"]["name"] == item["name"]
            assert read["cls"] == item["label"]
            content = read["safetensors"]
            tensors = safetensors.torch.load(content) if isinstance(content, bytes) else content
            assert torch.equal(tensors["mean"].float(), item["mean"])
        assert (row["name"], row["label"]) == (item["name"], item["label"])
        assert rows.features["mean"].dtype == "float16"
        assert np.array_equal(row["mean"], item["mean"].numpy())


def test_the_files_of_lightningdit_are_read_by_its_rules(models, photos, tmp_path):
    """As its `ImgLatentDataset` indexes, normalises and picks."""
    assert run(models / "vae", photos, tmp_path / "out", "--format", "lightningdit", "--shard_size", "4") == 0
    found = []
    statistics = torch.load(tmp_path / "out" / "latents_stats.pt")
    assert statistics["mean"].shape == statistics["std"].shape == (1, 2, 1, 1)
    for file in sorted((tmp_path / "out").glob("*.safetensors")):
        with safetensors.safe_open(file, framework="pt", device="cpu") as opened:
            for i in range(opened.get_slice("labels").get_shape()[0]):
                both = [opened.get_slice(name)[i : i + 1] for name in ("latents", "latents_flip")]
                found.append((*both, opened.get_slice("labels")[i : i + 1].squeeze(0)))
    ours = list(LatentDataset(tmp_path / "out"))
    assert len(found) == len(ours) == COUNT - 1
    for (latents, flipped, label), item in zip(found, ours, strict=True):
        assert torch.equal(latents[0], item["latents"])
        assert torch.equal(flipped[0], item["latents_flip"])
        assert label == item["label"]
    normal = torch.cat([(latents - statistics["mean"]) / statistics["std"] for latents, _, _ in found])
    torch.testing.assert_close(normal.mean((0, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(normal.std((0, 2, 3), correction=0), torch.ones(2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_the_caches_of_kohya_are_read_by_its_rules(family, models, photos, tmp_path):
    """As its `LatentsCachingStrategy` names and loads them, of a bucket of 16 x 16 pixels."""
    assert run(models / "eight", photos, tmp_path / "out", "--format", f"kohya-{family}", "--flips") == 0
    ours = {item["name"]: item for item in LatentDataset(tmp_path / "out")}
    assert len(ours) == COUNT - 1
    for name, item in ours.items():
        width, height = Image.open(photos / name).size
        path = os.path.splitext(tmp_path / "out" / name)[0] + f"_{width:04d}x{height:04d}_{family}.npz"
        with np.load(path) as npz:
            for suffix in ["_2x2"] + [""] * (family == "sdxl"):
                assert np.array_equal(npz["latents" + suffix], item["latents"])
                assert npz["latents" + suffix].dtype == np.float32
                assert np.array_equal(npz["latents_flipped" + suffix], item["latents_flip"])
                assert npz["original_size" + suffix].tolist() == [24, 16]
                # 24 x 16 fits into 16 x 16 as 16 x 10.67, with (16 - 10.67) // 2 above
                assert npz["crop_ltrb" + suffix].tolist() == pytest.approx([0, 2, 16, 2 + 16 / 1.5])


def test_captions_and_classes_of_a_webdataset_go_with_their_images(models, tmp_path):
    noise = np.random.default_rng(1)
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        for number in range(4):
            buffer = io.BytesIO()
            Image.fromarray(noise.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(buffer, "png")
            members = {"cls": str(number + 7), "txt": f"a caption, {number}", "json": json.dumps({"tag": f"t{number}"})}
            for ending, content in {**members, "png": buffer.getvalue()}.items():
                data = content.encode() if isinstance(content, str) else content
                info = tarfile.TarInfo(f"a/{number}.{ending}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    wanted = {"cls": [7, 8, 9, 10], "txt": [f"a caption, {n}" for n in range(4)], "tag": ["t0", "t1", "t2", "t3"]}
    for column, labels in wanted.items():
        words = [] if column == "cls" else ["--label_column", column, "--format", "parquet"]
        assert run(models / "vae", tmp_path / "photos.tar", tmp_path / column, *words) == 0
        items = list(LatentDataset(tmp_path / column))
        assert [item["label"] for item in items] == labels
        assert [item["name"] for item in items] == [f"photos.tar::a/{n}.png" for n in range(4)]


def test_columns_of_a_table_go_with_their_images(models, tmp_path, capsys):
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(buffer, "png")
    (tmp_path / "data").mkdir()
    columns = {
        "image": [{"bytes": buffer.getvalue(), "path": None}] * 3,
        "label": [2, 0, 1],
        "caption": ["one", None, "three"],
        "score": [0.5, 0.1, 0.2],
    }
    pq.write_table(pa.table(columns), tmp_path / "data" / "train.parquet")
    for column, labels in ((None, [2, 0, 1]), ("caption", ["one", None, "three"])):
        words = [] if column is None else ["--label_column", column]
        assert run(models / "vae", tmp_path / "data", tmp_path / f"out-{column}", *words) == 0
        items = list(LatentDataset(tmp_path / f"out-{column}"))
        assert [item["label"] for item in items] == labels
        assert items[1]["name"] == "train.parquet#1"
    capsys.readouterr()
    assert run(models / "vae", tmp_path / "data", tmp_path / "no", "--label_column", "score") == 2
    assert "takes integers or text" in capsys.readouterr().err
    assert run(models / "vae", tmp_path / "data", tmp_path / "no", "--label_column", "nothing") == 2
    assert "has label, caption, score beside the images" in capsys.readouterr().err
    words = ["--format", "lightningdit", "--label_column", "caption"]
    assert run(models / "vae", tmp_path / "data", tmp_path / "no", *words) == 2
    assert "expect classes" in capsys.readouterr().err


@pytest.mark.parametrize("layout", ["webdataset", "lightningdit", "kohya-sd"])
def test_a_killed_run_goes_on_without_a_lost_or_doubled_image(layout, models, photos, tmp_path, capsys):
    model = models / ("eight" if layout.startswith("kohya") else "vae")
    words = ["--format", layout, "--shard_size", "4", "--batch_size", "3"]
    assert run(model, photos, tmp_path / "whole", *words) == 0
    whole = contents(tmp_path / "whole")
    work = partial(run, model, photos, tmp_path / "out", *words)
    kills = 0
    while killed_at(kills + 1, work):  # each process comes a little further than the one before
        kills += 1
        assert kills < 20
    assert kills >= 5
    assert contents(tmp_path / "out") == whole
    capsys.readouterr()
    assert work() == 0
    assert "has the latents of all 10 images already: --overwrite" in capsys.readouterr().out
    assert contents(tmp_path / "out") == whole


def test_a_run_that_fails_says_how_to_go_on_and_leaves_no_half_file(models, photos, tmp_path, capsys, monkeypatch):
    words = ["--shard_size", "4"]
    assert run(models / "vae", photos, tmp_path / "whole", *words) == 0
    real, calls = encoding_run.encode_batch, [0]

    def failing(error):
        def encode_batch(*arguments):
            calls[0] += 1
            if calls[0] == 2:
                raise error
            return real(*arguments)

        return encode_batch

    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "train-00001-of-00003.tar")
    for error, status, sentence in (
        (full, 2, "No space left on device. What is whole stays in"),
        (KeyboardInterrupt(), 130, "interrupted: the same command goes on with what is whole in"),
    ):
        output, calls[0] = tmp_path / type(error).__name__, 0
        monkeypatch.setattr(encoding_run, "encode_batch", failing(error))
        capsys.readouterr()
        assert run(models / "vae", photos, output, *words) == status
        assert sentence in capsys.readouterr().err
        assert [path.name for path in output.glob("*.tar*")] == ["train-00000-of-00003.tar"]
        monkeypatch.setattr(encoding_run, "encode_batch", real)
        assert run(models / "vae", photos, output, *words) == 0
        assert contents(output) == contents(tmp_path / "whole")


SHAPES = ((64, 16), (32, 32), (16, 64))  # of --crop whole, each of which is a bucket of its own


@pytest.fixture(scope="module")
def wide_and_tall(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    noise = np.random.default_rng(2)
    for number in range(11):
        width, height = SHAPES[number % 3]
        Image.fromarray(noise.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / f"{number:02d}.png")
    (folder / "04.png").write_bytes(b"no image")
    return folder


@pytest.mark.parametrize("layout", ["webdataset", "kohya-sdxl"])
def test_whole_images_are_encoded_in_batches_of_one_size(layout, models, wide_and_tall, tmp_path, monkeypatch):
    real, batches = encoding_run.encode_batch, []

    def seen(adapter, found, *rest):
        batches.append([one.number for one in found])
        return real(adapter, found, *rest)

    monkeypatch.setattr(encoding_run, "encode_batch", seen)
    words = ["--crop", "whole", "--resolution", "32", "--shard_size", "6", "--batch_size", "2", "--content", "samples"]
    assert run(models / "eight", wide_and_tall, tmp_path / "out", *words, "--format", layout) == 0
    assert batches == [[2, 5], [1, 4], [0, 3], [8], [7, 10], [6, 9]]  # number 4, which cannot be read, is a square
    found = LatentDataset(tmp_path / "out")
    assert [item["number"] for item in found] == [number for number in range(11) if number != 4]
    vae = AutoencoderVAE.from_pretrained(models / "eight").eval()
    for item in found:
        pixels = np.asarray(Image.open(wide_and_tall / item["name"]))
        with torch.no_grad():
            q = vae.encode(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 127.5 - 1).latent_dist
        width, height = SHAPES[item["number"] % 3]
        assert item["latents"].shape == (2, height // 8, width // 8)
        assert ((item["latents"] - q.mean[0]) / q.std[0]).abs().max() < 5
        if layout == "kohya-sdxl":
            path = tmp_path / "out" / f"{item['number']:02d}_{width:04d}x{height:04d}_sdxl.npz"
            with np.load(path) as npz:
                assert np.array_equal(npz[f"latents_{height // 8}x{width // 8}"], item["latents"])
                assert npz["crop_ltrb"].tolist() == [0, 0, width, height]


def test_whole_images_are_refused_where_latents_have_one_size(models, wide_and_tall, tmp_path, capsys):
    for layout in ("parquet", "lightningdit"):
        words = ["--crop", "whole", "--resolution", "32", "--format", layout]
        assert run(models / "eight", wide_and_tall, tmp_path / "out", *words) == 2
        assert "--crop whole gives latents of several sizes" in capsys.readouterr().err


def test_workers_read_the_same(models, photos, tmp_path):
    words = ["--shard_size", "4", "--batch_size", "3"]
    for workers in ("0", "2"):
        assert run(models / "vae", photos, tmp_path / workers, *words, "--dataloader_num_workers", workers) == 0
    assert contents(tmp_path / "0") == contents(tmp_path / "2")
