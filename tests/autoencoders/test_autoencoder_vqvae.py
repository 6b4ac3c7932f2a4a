"""The discrete adapter: `VQModel.quantize`, the range of images, the paper's levels."""

import pytest
import torch

from support.tiny_vqvae import images, tiny
from vae_plugin import AutoencoderVQVAE
from vae_plugin.models.quantizers.settings import FSQ_LEVELS


def test_quantize_gives_what_pipelines_of_discrete_latents_look_for():
    model = tiny()
    encoded = model.encode(images(2, 3, 16, 16))
    quantized, loss, (perplexity, _, indices) = model.quantize(encoded.latents)
    assert torch.equal(indices, encoded.indices)
    torch.testing.assert_close(quantized, model.quantizer.indices_to_codes(indices))
    torch.testing.assert_close(loss, 0.25 * (encoded.latents - quantized).square().mean())
    p = torch.bincount(indices.flatten()) / indices.numel()
    expected = torch.distributions.Categorical(p[p > 0]).entropy().exp().item()
    assert perplexity.item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(model.decode(encoded.latents).commit_loss, loss)


def test_another_image_range_is_another_scale_of_the_same_images(tmp_path):
    signed, unit = tiny(sigma=0.3), tiny(sigma=0.3)
    unit.set_image_range(0, 1)
    unit.save_pretrained(tmp_path)
    x = images(2, 3, 16, 16)
    expected = signed.encode(x)
    for model in (unit, AutoencoderVQVAE.from_pretrained(tmp_path)):
        encoded = model.encode((x + 1) / 2)
        torch.testing.assert_close(encoded.latents, expected.latents, rtol=1e-4, atol=1e-5)
        reconstruction = (signed(x).sample + 1) / 2
        torch.testing.assert_close(model((x + 1) / 2).sample, reconstruction, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(model.decode_indices(expected.indices), reconstruction, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(model.elbo((x + 1) / 2), signed.elbo(x), rtol=1e-4, atol=1e-1)
    with pytest.raises(ValueError, match="low must be below high"):
        unit.set_image_range(1, 0)


@pytest.mark.parametrize("size", list(FSQ_LEVELS))
def test_the_levels_of_the_paper_are_about_as_many_codes_as_it_says(size):
    assert 0.9 < tiny(quantizer_type="fsq", num_vq_embeddings=size).codebook_size / size < 1.1
