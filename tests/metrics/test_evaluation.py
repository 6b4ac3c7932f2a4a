"""The measures of one batch: computed from one posterior, with the values of the functions that compute their own."""

import pytest
import torch

from vae_plugin import AutoencoderVAE
from vae_plugin.metrics import evaluate
from vae_plugin.objectives import elbo, importance_weighted_bound


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_a_batch_is_encoded_for_its_reconstruction_and_once_more_for_its_likelihood(likelihood):
    torch.manual_seed(0)
    sizes = {"in_channels": 1, "out_channels": 1, "sample_size": 8, "latent_channels": 2, "hidden_sizes": (16,)}
    model = AutoencoderVAE(**sizes, network="mlp", likelihood=likelihood).eval()
    x = torch.rand(5, 1, 8, 8) * 2 - 1
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        expected = {
            "elbo_nats": elbo(model, x, generator).value.mean().item(),
            "log_likelihood_nats": importance_weighted_bound(model, x, 4, generator).mean().item(),
            "kl_nats": model.posterior(x).kl().mean().item(),
        }
    encoded: list[int] = []
    model.encoder.register_forward_hook(lambda *_: encoded.append(1))
    measured = evaluate(model, [x], num_importance_samples=4, seed=3)
    assert {name: measured[name] for name in expected} == pytest.approx(expected, rel=1e-6)
    assert len(encoded) == 2
