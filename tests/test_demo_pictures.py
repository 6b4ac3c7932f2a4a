"""The overview of the demo moves the latents that tell the factors, on a model for which they are known."""

import torch

from vae_plugin.commands.overview import COLUMNS, factor_rows
from vae_plugin.widgets.codec import open_model
from vae_plugin.widgets.lab import BUNDLED


def test_a_row_for_each_factor_moves_that_factor_alone():
    model = open_model(str(BUNDLED)).model.eval()
    names, images = factor_rows(model, seed=1)
    assert names == ["x", "y", "radius", "hue"]
    images = ((images + 1) / 2).unflatten(0, (4, COLUMNS))

    # From the pixels alone: the centre of the light, its amount, and the strongest colour.
    light, grid = images.sum(2), torch.arange(32) + 0.5
    mass = light.sum((2, 3))
    x, y = (light.sum(2) * grid).sum(2) / mass, (light.sum(3) * grid).sum(2) / mass
    spread = {"x": x, "y": y, "radius": mass / mass.mean(1, keepdim=True)}
    for name, moved in spread.items():
        row = names.index(name)
        assert (moved[row].diff() > 0).all(), name
        others = [other for other in range(4) if other != row]
        extent = moved.amax(1) - moved.amin(1)
        assert extent[others].max() < extent[row] / 2, name
    strongest = images.sum((3, 4)).argmax(2)
    assert len(strongest[3].unique()) == 3  # around the circle of hues
