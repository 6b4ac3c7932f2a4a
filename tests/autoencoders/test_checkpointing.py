"""Gradient checkpointing by our own means, where diffusers has none."""

import copy
import pickle
from collections import Counter

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from support.tiny_diffusers import BY_NAME, tiny
from vae_plugin.autoencoders import adapt
from vae_plugin.autoencoders.checkpointing import recompute_activations

OURS = [name for name in BY_NAME if adapt(tiny(name)).recomputed_blocks]


def step(adapter):
    """Gradients by name, how many numbers autograd kept for them, and how often each module ran."""
    model = adapter.model.train()
    model.zero_grad()
    ran, kept = Counter(), []
    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: ran.update([name]))
        for name, module in model.named_modules()
    ]
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, 16, 16, generator=generator) * 2 - 1
    noise = torch.randn(adapter.noise_shape(2, 16, 16), generator=generator)
    torch.manual_seed(0)
    with saved_tensors_hooks(lambda t: (kept.append(t.numel()), t)[1], lambda t: t):
        loss = adapter.training_pass(x, noise).reconstruction.square().mean()
    loss.backward()
    for hook in hooks:
        hook.remove()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return gradients, sum(kept), ran


@pytest.mark.parametrize("name", OURS)
def test_gradients_are_the_same_and_less_is_kept_for_them(name):
    adapter = adapt(tiny(name))
    names = list(adapter.model.state_dict())
    expected, all_kept, once = step(adapter)
    adapter.enable_gradient_checkpointing()
    adapter.enable_gradient_checkpointing()  # again: a block is recomputed once all the same
    gradients, kept, ran = step(adapter)
    assert gradients.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(gradients[key], value)
    assert kept < 0.5 * all_kept
    for key, block in adapter.model.named_modules():
        if block in adapter.recomputed_blocks:
            first = next(inside for inside, _ in block.named_modules(prefix=key) if inside != key and once[inside])
            assert ran[first] == 2 * once[first]  # once, or twice where a block uses it again
    assert list(adapter.model.state_dict()) == names
    with torch.no_grad():
        before = sum(ran.values())
        adapter.reconstruct(torch.zeros(1, 3, 16, 16))
    assert sum(ran.values()) == before


def test_it_is_saved_and_opened_as_ever(tmp_path):
    adapter = adapt(tiny("AutoencoderDC"))
    adapter.enable_gradient_checkpointing()
    adapter.save(tmp_path)
    again = BY_NAME["AutoencoderDC"].from_pretrained(tmp_path)
    for key, value in tiny("AutoencoderDC").state_dict().items():
        assert torch.equal(again.state_dict()[key], value)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda block: pickle.loads(pickle.dumps(block))])
def test_a_copy_recomputes_its_own_blocks(copied):
    block = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2))
    recompute_activations([block])
    other = copied(block)
    with torch.no_grad():
        other[0].weight.zero_()
    other(torch.ones(1, 2)).sum().backward()
    assert block[2].weight.grad is None
    torch.testing.assert_close(other[2].weight.grad, other[0].bias.tanh().expand(2, 2))


def test_dropout_draws_the_same_numbers_again():
    block = nn.Sequential(nn.Linear(3, 64), nn.Dropout(0.5), nn.Linear(64, 1))
    recompute_activations([block])
    dropped = []
    block[1].register_forward_hook(lambda module, args, output: dropped.append(output))
    block(torch.ones(1, 3)).sum().backward()
    assert torch.equal(*dropped)
    torch.testing.assert_close(block[2].weight.grad, dropped[0].detach())


@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_batch_norm_counts_a_batch_once(momentum):
    block = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=momentum), nn.Tanh(), nn.Linear(4, 1))
    plain = copy.deepcopy(block)
    recompute_activations([block])
    for seed in range(3):
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(seed))
        for module in (block, plain):
            module(x).sum().backward()
    for one, other in zip(block.buffers(), plain.buffers(), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(block.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
