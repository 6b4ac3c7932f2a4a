"""Own your latent space: train, adapt, measure and look inside the autoencoder of a diffusers pipeline.

Importing this package registers its classes with diffusers: a pipeline whose `model_index.json` names
`["vae_plugin", "AutoencoderVAE"]` loads from a folder or the Hub, without a trust flag.
"""

from typing import Any

from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_loading_utils import LOADABLE_CLASSES as _LOADABLE_CLASSES

from .autoencoders import AutoencoderVAE, AutoencoderVQVAE
from .autoencoders.storage import SafeStorage as _SafeStorage
from .version import __version__

# diffusers looks in this table for the library of a component, then for the component's class and for the base classes
# named here in the library's top level: that is why `ModelMixin` is imported above and why nothing here is lazy.
_LOADABLE_CLASSES["vae_plugin"] = {"ModelMixin": ["save_pretrained", "from_pretrained"]}


def _publish(model: Any, repo_id: str, **settings: Any) -> str:
    """What a model's own `push_to_hub` does; the address of the commit."""
    from .hub import push  # only those who publish need the Hub's client and the templates

    return push(model, repo_id, **settings).commit_url


_SafeStorage.publish = staticmethod(_publish)

__all__ = ["AutoencoderVAE", "AutoencoderVQVAE", "ModelMixin", "__version__"]
