"""Pictures show the pixels they are given, where they say."""

import numpy as np
import pytest
import torch

from vae_plugin import AutoencoderVAE, pictures


def test_a_grid_holds_each_image_at_its_place():
    images = torch.linspace(-1, 1, 5)[:, None, None, None].expand(5, 1, 64, 64)
    sheet = np.asarray(pictures.grid(images, columns=3))
    gap = pictures.GAP
    assert sheet.shape == (2 * 64 + 3 * gap, 3 * 64 + 4 * gap)
    for i in range(5):
        top, left = gap + (i // 3) * (64 + gap), gap + (i % 3) * (64 + gap)
        assert (sheet[top : top + 64, left : left + 64] == round(255 * i / 4)).all()
    assert (sheet[64 + 2 * gap :, 2 * 64 + 3 * gap + 1 :] == pictures.BACKGROUND).all()


@pytest.mark.parametrize(("channels", "shown"), [(1, 0), (2, 0), (3, 3), (4, 4), (7, 0)])
def test_a_grid_takes_any_number_of_channels(channels, shown):
    sheet = np.asarray(pictures.grid(torch.zeros(2, channels, 8, 8), columns=2))
    assert sheet.shape[2:] == ((shown,) if shown else ())
    assert sheet.shape[0] == 64 + 2 * pictures.GAP  # small images are enlarged


def test_a_picture_is_whole_or_not_there(tmp_path, monkeypatch):
    picture = pictures.grid(torch.zeros(1, 1, 8, 8), 1)
    path = pictures.save_png(picture, tmp_path / "new" / "a.png")
    before = path.read_bytes()

    def full_disk(file, **_):
        file.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(picture, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        pictures.save_png(picture, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("network", ["conv", "mlp"])
def test_a_traversal_moves_the_latent_along_each_row(network):
    torch.manual_seed(0)
    vae = AutoencoderVAE(
        in_channels=1, sample_size=16, block_out_channels=(8, 8), norm_num_groups=4, latent_channels=6, network=network
    ).eval()
    sheet = np.asarray(pictures.latent_traversal(vae, torch.rand(10, 1, 16, 16) * 2 - 1, rows=4, steps=5)).astype(int)
    side = 64 + pictures.GAP
    assert sheet.shape == (4 * side + pictures.GAP, 5 * side + pictures.GAP)
    middle = [sheet[r * side : (r + 1) * side, 2 * side : 3 * side] for r in range(4)]
    assert all((m == middle[0]).all() for m in middle)  # every row goes through the same latent
    assert any((sheet[:, :side] != sheet[:, 4 * side : 5 * side]).ravel())
