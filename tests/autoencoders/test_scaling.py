"""How pipelines scale latents, as a formula for people."""

import itertools

import torch

from vae_plugin.autoencoders.scaling import rule, scaled

VALUES = {
    "scaling_factor": (None, 1.0, 0.18215),
    "shift_factor": (None, 0.0, 0.25),
    "latents_mean": (None, [0.0, 0.0], [0.5, -1.0]),
    "latents_std": (None, [1.0, 1.0], [2.0, 0.5]),
}


def test_the_formula_is_what_is_done():
    z = torch.randn(1, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    for values in itertools.product(*VALUES.values()):
        config = {name: value for name, value in zip(VALUES, values, strict=True) if value is not None}
        formula = rule(config)
        if formula is None:
            assert torch.equal(scaled(config, z), z), config
            continue
        fields = {n: torch.tensor(v).view(1, 2, 1, 1) for n, v in config.items() if isinstance(v, list)}
        torch.testing.assert_close(eval(formula, {"z": z, **fields}), scaled(config, z), msg=str(config))


def test_a_field_that_diffusers_does_not_read_is_named_as_it_stands():
    assert rule({"_latents_mean": [1.0], "_latents_std": [2.0]}) == "(z - _latents_mean) / _latents_std"
