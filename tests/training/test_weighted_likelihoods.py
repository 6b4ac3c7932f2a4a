"""The weight of the total correlation and the importance-weighted bound, as losses of a run."""

import json
import math

import pytest
import torch

from support.processes import together
from vae_plugin import AutoencoderVAE, finetune
from vae_plugin.autoencoders import adapt
from vae_plugin.datasets import Circles
from vae_plugin.errors import UserError
from vae_plugin.objectives import TrainingObjective, elbo, importance_weighted_bound, kl_terms
from vae_plugin.training.losses import ELBOLoss, ImportanceWeightedLoss

SIDE, DIMENSIONS, SIGMA = 8, 64, 0.4
RUN = {
    "dataset_name": "circles", "circles_length": 20, "resolution": SIDE, "network": "mlp", "hidden_sizes": (8,),
    "latent_channels": 3, "train_batch_size": 5, "max_train_steps": 2, "num_validation_images": 3,
}  # fmt: skip


def vae(**config):
    torch.manual_seed(1)
    settings = {"network": "mlp", "hidden_sizes": (8,), "sample_size": SIDE, "sigma": SIGMA, **config}
    return AutoencoderVAE(in_channels=1, latent_channels=3, **settings).train()


def images(n=6):
    return torch.rand(n, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1


def noise_for(loss, n=6):
    return torch.randn(loss.noise_shape(n, SIDE, SIDE), generator=torch.Generator().manual_seed(9))


def gradients(value, model):
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(model.parameters()), retain_graph=True)])


def by_hand(model, x, noise, beta, tc_weight):
    """The loss with q(z) as a sum over the batch, written out; constants aside, as they have no gradient."""
    mean, logvar = model.encoder_output(x).flatten(1).chunk(2, 1)
    z = mean + (0.5 * logvar).exp() * noise.flatten(1)
    y = model.decoder_output(z[:, :, None, None])
    nll = (0.5 * ((x - y) / SIGMA) ** 2).flatten(1).sum(1).mean()
    kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(1).mean()
    correlation = 0.0
    for one in z:
        densities = [(-0.5 * ((one - mean[j]) ** 2 / logvar[j].exp() + logvar[j])).exp() for j in range(len(z))]
        joint = sum(density.prod() for density in densities)
        product = math.prod(sum(density[d] for density in densities) for d in range(len(one)))
        correlation = correlation + (joint / product).log() / len(z)
    return (nll + beta * kl + (tc_weight - beta) * correlation) / DIMENSIONS


@pytest.mark.parametrize(("beta", "tc_weight"), [(1.0, 6.0), (4.0, 0.0)])
def test_the_total_correlation_is_weighed_alone(beta, tc_weight):
    model = vae()
    loss = ELBOLoss(adapt(model), TrainingObjective(beta=beta, tc_weight=tc_weight), dataset_size=50)
    x, noise = images(), noise_for(loss)
    terms = loss(x, noise, 0)
    expected = gradients(by_hand(model, x, noise, beta, tc_weight), model)
    torch.testing.assert_close(gradients(terms["loss"], model), expected, rtol=1e-3, atol=1e-5)
    plain = ELBOLoss(adapt(model), TrainingObjective())(x, noise, 0)
    assert terms["elbo_nats"].item() == plain["elbo_nats"].item()
    posterior = model.posterior(x)
    told = kl_terms(posterior, posterior.rsample(noise), 50, "stratified")
    for name in ("mutual_information", "total_correlation", "dimension_kl"):
        assert terms[f"{name}_nats"].item() == pytest.approx(getattr(told, name).mean().item(), rel=1e-5)
        assert not terms[f"{name}_nats"].requires_grad


def test_the_weight_of_the_rest_of_the_kl_changes_nothing():
    model = vae()
    plain = ELBOLoss(adapt(model), TrainingObjective(beta=2.0))
    weighed = ELBOLoss(adapt(model), TrainingObjective(beta=2.0, tc_weight=2.0))
    x, noise = images(), noise_for(plain)
    one, other = (loss(x, noise, 0)["loss"] for loss in (plain, weighed))
    assert one.item() == other.item()
    torch.testing.assert_close(gradients(one, model), gradients(other, model), rtol=0, atol=0)


def test_warm_up_is_of_the_whole_kl():
    model = vae()
    x = images()
    whole, warm = (
        ELBOLoss(adapt(model), TrainingObjective(beta=beta, tc_weight=weight, warmup_steps=steps), 50)
        for beta, weight, steps in ((1.0, 3.0, 0), (4.0, 12.0, 4))
    )
    noise = noise_for(whole)
    assert warm(x, noise, 0)["loss"].item() == pytest.approx(whole(x, noise, 0)["loss"].item(), rel=1e-6)


def share_of(rank, folder):
    """The loss of one of two processes that have half of the batch each."""
    model = vae()
    loss = ELBOLoss(adapt(model), TrainingObjective(tc_weight=6.0), dataset_size=50)
    rows = slice(3 * rank, 3 * rank + 3)
    terms = loss(images()[rows], noise_for(loss)[rows], 0)
    told = {name: value.item() for name, value in terms.items()}
    torch.save((gradients(terms["loss"], model), told), folder / f"{rank}.pt")


@pytest.mark.slow
def test_two_processes_weigh_the_total_correlation_of_the_whole_batch(tmp_path):
    together(share_of, tmp_path)
    model = vae()
    loss = ELBOLoss(adapt(model), TrainingObjective(tc_weight=6.0), dataset_size=50)
    whole = loss(images(), noise_for(loss), 0)
    halves = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    mean = (halves[0][0] + halves[1][0]) / 2  # as gradients are averaged over processes
    torch.testing.assert_close(mean, gradients(whole["loss"], model), rtol=1e-4, atol=1e-6)
    for name in ("loss", "total_correlation_nats", "mutual_information_nats"):
        assert sum(told[name] for _, told in halves) / 2 == pytest.approx(whole[name].item(), rel=1e-5)


def test_the_gradient_of_the_importance_weighted_bound_is_that_of_detached_weights():
    """Burda et al. 2016, eq. 13: the log weights' gradients, each by its normalised weight, which has none."""
    model, count = vae(), 4
    loss = ImportanceWeightedLoss(adapt(model), count)
    x, noise = images(), noise_for(loss)
    assert noise.shape == (6, count, 3, 1, 1)
    terms = loss(x, noise, 0)
    log_weights = []
    for k in range(count):
        mean, logvar = model.encoder_output(x).flatten(1).chunk(2, 1)
        e = noise[:, k].flatten(1)
        z = mean + (0.5 * logvar).exp() * e
        y = model.decoder_output(z[:, :, None, None])
        log_p = -(0.5 * ((x - y) / SIGMA) ** 2 + math.log(SIGMA) + 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)
        log_weights.append(log_p + (-0.5 * z**2 + 0.5 * logvar + 0.5 * e**2).sum(1))
    log_weights = torch.stack(log_weights)
    share = log_weights.softmax(0).detach()
    expected = gradients(-(share * log_weights).sum(0).mean() / DIMENSIONS, model)
    torch.testing.assert_close(gradients(terms["loss"], model), expected, rtol=1e-3, atol=1e-6)
    bound = log_weights.exp().mean(0).log().mean().item()
    assert terms["importance_weighted_nats"].item() == pytest.approx(bound, rel=1e-5)
    assert terms["loss"].item() == pytest.approx(-bound / DIMENSIONS, rel=1e-5)


def test_one_importance_sample_has_the_gradient_of_the_elbo_in_expectation():
    """Only the KL differs, in closed form there, by its sample here."""
    model = vae()
    x = images(2).repeat(4000, 1, 1, 1)
    bound = importance_weighted_bound(model, x, 1, torch.Generator().manual_seed(0))
    value = elbo(model, x, torch.Generator().manual_seed(0)).value
    one, other = gradients(bound.mean(), model), gradients(value.mean(), model)
    assert (one - other).norm() < 0.03 * other.norm()


def test_a_run_tells_the_terms_and_measures_the_bound(tmp_path):
    weighed = finetune.train(finetune.options(**RUN, tc_weight=5.0, output_dir=str(tmp_path / "tc")))
    lines = [json.loads(line) for line in (tmp_path / "tc/logs/train.jsonl").read_text().splitlines()]
    names = {"mutual_information_nats", "total_correlation_nats", "dimension_kl_nats"}
    assert names <= set(lines[0])
    assert lines[0]["mutual_information_nats"] <= math.log(20) + 1e-4
    assert "log_likelihood_nats" not in weighed
    model, circles = AutoencoderVAE.from_pretrained(tmp_path / "tc"), Circles(20, SIDE, 1, seed=0)
    with torch.no_grad():
        q = model.posterior(circles.render(circles.factors))
    assert weighed["kl_terms_images"] == 20
    together = sum(weighed[name] for name in names)
    assert together == pytest.approx(q.kl().mean().item(), abs=1.0)  # by one sample of each
    assert "total correlation of the latents" in (tmp_path / "tc/README.md").read_text()
    of_samples = finetune.train(finetune.options(**RUN, num_importance_samples=3, output_dir=str(tmp_path / "iw")))
    assert of_samples["num_importance_samples"] == 3
    assert math.isfinite(of_samples["log_likelihood_nats"])
    assert "importance_weighted_nats" in json.loads((tmp_path / "iw/logs/train.jsonl").read_text().splitlines()[0])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"num_importance_samples": 5, "beta": 4.0}, "--num_importance_samples .*--beta"),
        ({"num_importance_samples": 5, "beta": 0.0}, "--num_importance_samples .*--beta"),
        ({"num_importance_samples": 5, "free_bits": 1.0}, "--num_importance_samples .*--free_bits"),
        ({"num_importance_samples": 5, "capacity": 1.0}, "--num_importance_samples .*--capacity"),
        ({"num_importance_samples": 5, "tc_weight": 1.0}, "--num_importance_samples .*--tc_weight"),
        ({"num_importance_samples": 5, "reconstruction_loss": "l1"}, "--num_importance_samples .*--reconstruction"),
        ({"num_importance_samples": 5, "model_type": "vqvae"}, "--num_importance_samples .*--model_type"),
        ({"num_importance_samples": 0}, "num_importance_samples"),
        ({"tc_weight": 5.0, "beta": 0.0}, "--tc_weight .*--beta"),
        ({"tc_weight": 5.0, "free_bits": 1.0}, "--tc_weight .*--free_bits"),
        ({"tc_weight": 5.0, "capacity": 1.0}, "--tc_weight .*--capacity"),
        ({"tc_weight": 5.0, "reconstruction_loss": "l1"}, "--tc_weight .*--reconstruction_loss"),
    ],
)  # fmt: skip
def test_where_they_cannot_act_they_are_refused(tmp_path, changes, sentence):
    of_mlp = ("network", "hidden_sizes")
    run = {name: value for name, value in RUN.items() if "model_type" not in changes or name not in of_mlp}
    with pytest.raises(UserError, match=sentence) as refused:
        finetune.train(finetune.options(**{**run, "output_dir": str(tmp_path), **changes}))
    assert "\n" not in str(refused.value)


def test_a_total_correlation_of_single_images_is_refused(tmp_path):
    """By one image the estimate, log q(z|x) / N less the sum of log q(z_j|x) / N, is (D - 1) log N of any model."""
    model, loss = vae(), images(1)
    q = adapt(model).posterior(loss)
    estimates = [kl_terms(q, z, dataset_size=50).total_correlation.detach() for z in (q.mean, q.mean + 1)]
    assert [float(each) for each in estimates] == pytest.approx([2 * math.log(50)] * 2, rel=1e-5)
    with pytest.raises(UserError, match="--tc_weight has no effect on batches of one image"):
        finetune.train(finetune.options(**{**RUN, "train_batch_size": 1}, tc_weight=5.0, output_dir=str(tmp_path)))
