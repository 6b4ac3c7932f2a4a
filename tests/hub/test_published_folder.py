"""Of a folder, a model is published and nothing else."""

import json
import shutil

import pytest
import torch
import yaml

from vae_plugin import AutoencoderVAE, files
from vae_plugin.errors import UserError
from vae_plugin.files import FILLING
from vae_plugin.hub.folder import published_files, snapshot
from vae_plugin.locks import FolderLock


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "run"
    AutoencoderVAE(in_channels=1, block_out_channels=(8, 8), norm_num_groups=4, sample_size=16).save_pretrained(path)
    (path / "samples").mkdir()
    (path / "samples" / "prior.png").write_bytes(b"png")
    return path


def test_a_result_that_is_on_its_way_is_staged_as_a_whole(folder, tmp_path):
    """A run was killed while it moved its files: the config is the new one already, the weights are not."""
    (folder / "metrics.json").write_text('{"psnr": 1.0}')
    (folder / FILLING).mkdir()
    for name in ("metrics.json", "run.json"):
        (folder / FILLING / name).write_text('{"psnr": 2.0}')
    snapshot(folder, tmp_path / "staged")
    assert json.loads((tmp_path / "staged" / "metrics.json").read_text()) == {"psnr": 2.0}
    assert (tmp_path / "staged" / "run.json").is_file()
    lock = FolderLock(folder)
    assert lock.take()  # of a run that lives
    (folder / FILLING).mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "SETTLED_WITHIN", 0.1)
        with pytest.raises(UserError, match="a run is writing its result into"):
            snapshot(folder, tmp_path / "again")
    lock.release()


def test_secrets_states_logs_and_pictures_of_the_course_stay(folder):
    (folder / "README.md").write_text("card")
    for name in (
        ".env",
        "optimizer.bin",
        "notes.txt",
        "config.json.partial",
        "samples/step-000005-prior.png",
        "train.py",
    ):
        (folder / name).write_text("secret")
    for name in ("checkpoints/step-1", "logs", "best", "lora"):
        (folder / name).mkdir(parents=True)
        (folder / name / "diffusion_pytorch_model.safetensors").write_text("x")
    names = {"README.md", "config.json", "diffusion_pytorch_model.safetensors", "samples/prior.png"}
    assert set(published_files(folder)) == names


def test_a_link_is_refused_and_not_followed(folder, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (folder / "metrics.json").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match=r"metrics.json is a link"):
        published_files(folder)


def test_a_linked_folder_of_pictures_is_refused(folder, tmp_path):
    shutil.move(folder / "samples", tmp_path / "elsewhere")
    (folder / "samples").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a link"):
        published_files(folder)


def test_a_pickle_is_refused_with_a_sentence(folder):
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({}, folder / "diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match=r"diffusion_pytorch_model.bin is a pickle"):
        published_files(folder)


def test_cut_weights_are_refused(folder):
    weights = folder / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        published_files(folder)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no config.json"),
        ("{", "is not valid JSON"),
        ("{}", "does not name the class"),
        ('{"_class_name": "UNet"}', "holds UNet, which"),
    ],
)
def test_a_folder_without_a_model_is_refused(folder, content, words):
    (folder / "config.json").unlink() if content is None else (folder / "config.json").write_text(content)
    with pytest.raises(UserError, match=words):
        published_files(folder)


def test_paths_of_this_machine_stay_here(folder, tmp_path):
    options = {"train_data_dir": str(tmp_path / "photos"), "output_dir": str(folder), "seed": 3, "teacher": None}
    options["pretrained_model_name_or_path"] = "user/vae"
    (folder / "training_options.yaml").write_text("".join(yaml.safe_dump({k: v}) for k, v in options.items()))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "_name_or_path": str(tmp_path)}))
    target = snapshot(folder, tmp_path / "staged")
    assert not [path for path in target.rglob("*") if path.is_file() and str(tmp_path).encode() in path.read_bytes()]
    written = yaml.safe_load((target / "training_options.yaml").read_text())
    assert written == {**options, "train_data_dir": "photos", "output_dir": "run"}
    assert AutoencoderVAE.from_pretrained(target).config.sample_size == 16
    assert str(tmp_path) in (folder / "training_options.yaml").read_text()  # the folder itself is not changed
