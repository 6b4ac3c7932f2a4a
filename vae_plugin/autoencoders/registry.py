"""Which classes of autoencoders are adapted, and why the others are not."""

from __future__ import annotations

from typing import Any

from accelerate.utils import extract_model_from_parallel, is_compiled_module
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from ..errors import UserError
from .adapter import Adapter
from .families.asymmetric import AsymmetricAdapter
from .families.dc import DCAdapter
from .families.flux2 import Flux2Adapter
from .families.hunyuan_image import HunyuanImageAdapter
from .families.hunyuan_refiner import HunyuanRefinerAdapter
from .families.kl import KLAdapter
from .families.kvae import KVAEAdapter
from .families.ours import VAEAdapter, VQModelAdapter, VQVAEAdapter
from .families.qwen import QwenImage21Adapter, QwenImageAdapter
from .families.rae import RAEAdapter
from .families.tiny import TinyAdapter, TinyFlux2Adapter
from .families.wan import WanAdapter

FAMILIES: tuple[type[Adapter], ...] = (
    VAEAdapter,
    VQVAEAdapter,
    KLAdapter,
    AsymmetricAdapter,
    Flux2Adapter,
    TinyAdapter,
    TinyFlux2Adapter,
    DCAdapter,
    HunyuanImageAdapter,
    KVAEAdapter,
    VQModelAdapter,
    WanAdapter,
    QwenImageAdapter,
    QwenImage21Adapter,
    HunyuanRefinerAdapter,
    RAEAdapter,
)
ADAPTERS = {family.class_name: family for family in FAMILIES if family.model_class() is not None}

VIDEO = "it is an autoencoder of videos that no image pipeline of diffusers has, and this package works with images"
SOUND = "it is an autoencoder of sound"
NOT_ADAPTED = {  # every other class in diffusers' models/autoencoders
    "AutoencoderKLAllegro": VIDEO,
    "AutoencoderKLCogVideoX": VIDEO,
    "AutoencoderKLCosmos": VIDEO,
    "AutoencoderKLHunyuanVideo": VIDEO,
    "AutoencoderKLHunyuanVideo15": VIDEO,
    "AutoencoderKLKVAEAudio": SOUND,
    "AutoencoderKLKVAEVideo": VIDEO,
    "AutoencoderKLLTX2Audio": SOUND,
    "AutoencoderKLLTX2Video": VIDEO,
    "AutoencoderKLLTXVideo": VIDEO,
    "AutoencoderKLMagvit": VIDEO,
    "AutoencoderKLMiniMaxH3": VIDEO,
    "AutoencoderKLMiniMaxH3Audio": SOUND,
    "AutoencoderKLMochi": VIDEO,
    "AutoencoderKLTemporalDecoder": VIDEO,
    "AutoencoderOobleck": SOUND,
    "AutoencoderSAME": SOUND,
    "AutoencoderVidTok": VIDEO,
    "ConsistencyDecoderVAE": "its decoder is a diffusion model, which is trained on noise",
    "Cosmos3AVAEAudioTokenizer": SOUND,
    "Kandinsky6SRVAE": "it makes a larger image of a smaller one",
    "LTX2VideoDiffusionDecoderModel": "it is a diffusion model that decodes videos",
    "LongCatAudioDiTVae": SOUND,
    "MMAudioVAE": SOUND,
    "MMAudioVocoder": "it turns spectrograms into sound",
    "MiniMaxMusic3Vocoder": "it turns spectrograms into sound",
    "RFD4ProteinaAutoencoder": "it is an autoencoder of protein structures",
}


def adapt(model: Adapter | nn.Module) -> Adapter:
    """The adapter of a model, also of one in a wrapper (compiled, of several processes); an adapter stays as it is.

    Raises:
        UserError: if the model is of no class that is adapted.
    """
    if isinstance(model, Adapter):
        return model
    if not isinstance(model, nn.Module):
        raise UserError(f"got a {type(model).__name__} for a model: {accepted_classes()}")
    model = unwrap(model)
    for cls in type(model).__mro__:
        family = ADAPTERS.get(cls.__name__)
        if family is not None and cls is family.model_class():
            assert isinstance(model, ModelMixin)
            return family(model)
    raise UserError(f"{type(model).__name__} is not supported: {accepted_classes(type(model).__name__)}")


def unwrap(model: Any) -> nn.Module:
    """The model itself inside what `torch.compile`, accelerate or torch's parallel modules have put around it."""
    while True:
        inner = model._orig_mod if is_compiled_module(model) else extract_model_from_parallel(model)
        if inner is model:
            return model
        model = inner


def accepted_classes(refused: Any = None) -> str:
    """A sentence that names the classes, and says of one of diffusers' why it is not among them."""
    reason = NOT_ADAPTED.get(refused) if isinstance(refused, str) else None
    return f"it must be one of {', '.join(sorted(ADAPTERS))}." + (f" {refused}: {reason}." if reason else "")


def family_of(class_name: Any) -> type[Adapter] | None:
    """The adapter of a class by its name, as a config.json gives it; None if there is none."""
    return ADAPTERS.get(class_name) if isinstance(class_name, str) else None
