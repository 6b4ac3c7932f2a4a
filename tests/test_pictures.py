"""Pictures show the given pixels in the documented layout."""

import numpy as np
import pytest
import torch
from PIL import Image

from vae_plugin import AutoencoderVAE, AutoencoderVQVAE, pictures


def test_a_grid_holds_each_image_in_its_cell():
    images = torch.linspace(-1, 1, 5)[:, None, None, None].expand(5, 1, 64, 64)
    sheet = np.asarray(pictures.grid(images, columns=3))
    gap = pictures.GAP
    assert sheet.shape == (2 * 64 + 3 * gap, 3 * 64 + 4 * gap)
    for i in range(5):
        top, left = gap + (i // 3) * (64 + gap), gap + (i % 3) * (64 + gap)
        assert (sheet[top : top + 64, left : left + 64] == round(255 * i / 4)).all()
    assert (sheet[64 + 2 * gap :, 2 * 64 + 3 * gap + 1 :] == pictures.BACKGROUND).all()


@pytest.mark.parametrize(("channels", "shown"), [(1, 0), (2, 0), (3, 3), (4, 4), (7, 3)])
def test_a_grid_takes_any_number_of_channels(channels, shown):
    sheet = np.asarray(pictures.grid(torch.zeros(2, channels, 8, 8), columns=2))
    assert sheet.shape[2:] == ((shown,) if shown else ())
    assert sheet.shape[0] == 64 + 2 * pictures.GAP  # small images are enlarged


def test_a_picture_is_complete_or_absent(tmp_path, monkeypatch):
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


@pytest.mark.parametrize("network", ["conv", "mlp"])
def test_a_round_trip_keeps_the_size_of_a_picture(network):
    torch.manual_seed(0)
    config = {"block_out_channels": (8, 8), "norm_num_groups": 4, "sample_size": 14, "network": network}
    vae = AutoencoderVAE(in_channels=1, out_channels=1, **config).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (14, 14), dtype=np.uint8)
    x = torch.from_numpy(pixels / 127.5 - 1).float()[None, None]
    expected = ((vae(x).sample[0, 0] / 2 + 0.5).clamp(0, 1) * 255).round().detach().numpy()
    decoded = np.asarray(pictures.round_trip(vae, Image.fromarray(pixels)))
    assert np.abs(decoded.astype(float) - expected).max() <= 1


def vqvae(**changes):
    torch.manual_seed(0)
    config = {"in_channels": 1, "sample_size": 16, "block_out_channels": (8, 8), "norm_num_groups": 4}
    model = AutoencoderVQVAE(**{**config, "num_vq_embeddings": 16, **changes}).eval()
    model.quant_conv.weight.data.mul_(5)  # spreads the latents over the codes
    return model


@pytest.mark.parametrize("changes", [{}, {"quantizer_type": "rvq", "num_quantizers": 2}], ids=["one", "several"])
def test_an_index_map_gives_equal_codes_equal_colours(changes):
    vae = vqvae(**changes)
    images = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    sheet = np.asarray(pictures.index_map(vae, images))
    side = 64 + pictures.GAP
    assert sheet.shape == (3 * side + pictures.GAP, 3 * side + pictures.GAP, 3)
    codes = vae.encode(images).indices.reshape(3, 8, 8, -1).tolist()
    colours = {}
    for i in range(3):
        for row in range(8):
            for column in range(8):
                top, left = side + pictures.GAP + row * 8, i * side + pictures.GAP + column * 8
                patch = sheet[top : top + 8, left : left + 8]
                assert (patch == patch[0, 0]).all()
                colours.setdefault(tuple(codes[i][row][column]), set()).add(tuple(patch[0, 0].tolist()))
    assert all(len(found) == 1 for found in colours.values())
    assert len({min(found) for found in colours.values()}) > len(colours) / 2


@pytest.mark.parametrize("changes", [{}, {"quantizer_type": "rvq", "num_quantizers": 2}], ids=["one", "several"])
def test_code_changes_change_one_code_and_nothing_else_by_more_and_more(changes):
    vae = vqvae(**changes)
    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    seen = []
    decode = vae.decode_indices
    vae.decode_indices = lambda indices: seen.append(indices) or decode(indices)
    sheet = np.asarray(pictures.code_changes(vae, images, columns=4)).astype(int)
    encoded = vae.encode(images).indices
    for one, indices in zip(encoded, seen, strict=True):
        assert torch.equal(indices[0], one)
        changed = indices != one
        where = changed.any(-1) if changed.ndim == 4 else changed
        assert where.sum((1, 2)).tolist() == [0, 1, 1, 1]
        [position] = where[1:].flatten(1).nonzero()[:, 1].unique().tolist()
        codes = [vae.quantizer.indices_to_codes(i[None]).flatten(2)[0, :, position] for i in indices]
        distances = [float((code - codes[0]).norm()) for code in codes]
        assert 0 == distances[0] < distances[1] < distances[2] < distances[3]
    side = 64 + pictures.GAP
    assert sheet.shape[0] == 4 * side + pictures.GAP
    difference = sheet[side + pictures.GAP : 2 * side, pictures.GAP : side]
    assert (difference == 128).all()  # of the reconstruction with itself


def test_labels_stand_above_pictures_that_stay_as_they_are():
    generator = np.random.default_rng(0)
    arrays = [generator.integers(0, 256, (height, 120, 3), dtype=np.uint8) for height in (30, 50)]
    texts = ("A few letters", "A line of text that is wider than the picture below it")
    sheet = np.asarray(pictures.labelled([*zip(texts, map(Image.fromarray, arrays), strict=True)]))
    line = (sheet.shape[0] - 80) // 2
    tops = (line, 2 * line + 30)
    for top, array in zip(tops, arrays, strict=True):
        assert np.array_equal(sheet[top : top + len(array), :120], array)
        label = sheet[top - line : top]
        assert label.min() < 80  # letters
        assert (label[[0, -1]] == 255).all()  # that nothing cuts off
        assert (label[:, -1] == 255).all()
    assert sheet.shape[1] > 120


def test_labelled_pairs_have_the_pixels_of_the_images_below_each_other():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(2, 3, 128, 96, generator=generator) * 2 - 1 for _ in range(2))
    pairs = [pictures.Pair("best, 20 dB", x[0], y[0]), pictures.Pair("worst, 10 dB", x[1], y[1])]
    sheet = np.asarray(pictures.labelled_pairs([("a", pairs), ("b" * 999, pairs[:1])])).astype(int)

    def places(image):
        """Rows and columns at which an image stands on the sheet, to the pixel."""
        levels = ((image.clamp(-1, 1) + 1) * 127.5).round().permute(1, 2, 0).numpy().astype(int)
        corners = np.argwhere((sheet[:-127, :-95] == levels[0, 0]).all(-1))
        return [(top, left) for top, left in corners if (sheet[top : top + 128, left : left + 96] == levels).all()]

    for one, other, count in ((x[0], y[0], 2), (x[1], y[1], 1)):
        error = (4 * (other - one).abs()).clamp(max=2) - 1
        found = [places(image) for image in (one, other, error)]
        assert [len(each) for each in found] == [count] * 3
        for (top, left), (middle, beside), (bottom, below) in zip(*found, strict=True):
            assert top < middle < bottom
            assert left == beside == below


def test_pictures_stand_beside_each_other_and_rows_have_names():
    black = Image.new("RGB", (40, 60), "black")
    sheet = np.asarray(pictures.beside([black, Image.new("RGB", (10, 20), "red")]))
    assert sheet.shape == (60, 40 + pictures.MARGIN + 10, 3)
    assert (sheet[:, :40] == 0).all()
    assert (sheet[:20, -10:] == [255, 0, 0]).all()
    assert (sheet[20:, 40:] == 255).all()

    named = np.asarray(pictures.with_names(black, ["radius", "", "x"]))
    assert (named[:, pictures.NAMES_WIDTH :] == 0).all()
    dark = (named[:, : pictures.NAMES_WIDTH] < 128).any((1, 2))  # rows of pixels with ink, one name in each third
    assert dark[:20].any()
    assert not dark[20:40].any()
    assert dark[40:].any()
