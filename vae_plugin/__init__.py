"""Own your latent space: train, adapt, measure and look inside the autoencoder of a diffusers pipeline.

Importing this package registers its classes with diffusers: a pipeline whose `model_index.json` names
`["vae_plugin", "AutoencoderVAE"]` loads from a folder or the Hub, without a trust flag.
"""

# ruff: noqa: E402  the other imports take seconds, in which Ctrl-C must not print a traceback

from typing import Any

from .signals import end_at_once as _end_at_once

_end_at_once()

import diffusers as _diffusers
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_loading_utils import LOADABLE_CLASSES as _LOADABLE_CLASSES

from .autoencoders import AutoencoderTinyFlux2, AutoencoderVAE, AutoencoderVQVAE
from .autoencoders.storage import publish_with as _publish_with
from .version import __version__

# diffusers looks up the library of a component here, then the component's class and the base classes named here at the
# top level of that library. Hence the import of `ModelMixin`, and no lazy imports.
_LOADABLE_CLASSES["vae_plugin"] = {"ModelMixin": ["save_pretrained", "from_pretrained"]}

# `diffusers.AutoModel` looks up the class that a config.json names in diffusers alone.
for _class in (AutoencoderVAE, AutoencoderVQVAE, AutoencoderTinyFlux2):
    setattr(_diffusers, _class.__name__, _class)


def _publish(model: Any, repo_id: str, **settings: Any) -> str:
    """Push a model; return the address of the commit."""
    from .hub import push  # imported on use: only publishing needs the Hub client and the card templates

    return push(model, repo_id, **settings).commit_url


_publish_with(_publish)

__all__ = ["AutoencoderTinyFlux2", "AutoencoderVAE", "AutoencoderVQVAE", "ModelMixin", "__version__"]
