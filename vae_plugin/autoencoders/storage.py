"""Loading, saving and pushing of our models: safetensors only, their own class only, with a real card."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from diffusers.models.modeling_utils import ModelMixin

from ..errors import UserError
from .config_fields import check_fields
from .offload import restore_buffers
from .padding import use_recorded_padding
from .weights import NOT_SAVED, check_finite, load_fitting, plain_names, reason

NO_PICKLE = "Weights in a pickle (.bin, .ckpt) are not opened, as a pickle can run code: convert them to safetensors."

_publish: Callable[..., str] | None = None


def publish_with(publish: Callable[..., str]) -> None:
    """Hand in what `push_to_hub` calls.

    Publishing stands above the models, which therefore cannot import it.

    Args:
        publish: takes the model and the arguments of `push_to_hub`, and returns the address of the commit.
    """
    global _publish
    _publish = publish


class SafeStorage:
    """`from_pretrained`, `save_pretrained` and `push_to_hub` of diffusers, without their traps.

    diffusers falls back to a pickle when it cannot reach the safetensors, silently loads the weights of another class,
    and its push replaces the card and uploads everything in the folder.
    """

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> Any:
        """As diffusers' `ModelMixin.from_pretrained`, from safetensors only, and only if every tensor fits.

        Args:
            pretrained_model_name_or_path: folder or Hub id.
            kwargs: those of diffusers: `subfolder`, `revision`, `torch_dtype`, `variant`, ...

        Raises:
            ValueError: if a pickle is asked for, the weights belong to another class, do not fit the configuration or
                are not finite, or the configuration is impossible.
            OSError: if there are no such weights.
        """
        if kwargs.get("use_safetensors") is False:
            raise ValueError(f"use_safetensors=False: {NO_PICKLE}")
        if kwargs.pop("ignore_mismatched_sizes", False):
            raise ValueError("ignore_mismatched_sizes=True would leave random weights in the model: leave it out.")
        inherited: Any = super()
        source, subfolder = pretrained_model_name_or_path, kwargs.get("subfolder")
        if subfolder and os.path.isdir(os.path.join(source, subfolder)):
            # diffusers would prefer weights in the folder itself to those in the subfolder.
            source = os.path.join(source, kwargs.pop("subfolder"))
        wants_info = kwargs.pop("output_loading_info", False)
        try:
            model, info = load_fitting(inherited.from_pretrained, source, **{**kwargs, "use_safetensors": True})
        except OSError as error:
            if ".safetensors" not in str(error):
                raise
            raise OSError(f"{' '.join(str(error).split())} {NO_PICKLE}") from error
        restore_buffers(model)
        return (model, info) if wants_info else model

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As diffusers' `ConfigMixin.from_config`, for the config of this class only.

        Raises:
            UserError: if the config names another class, or no model can be built from it.
        """
        if not isinstance(config, Mapping):
            raise UserError(f"a configuration was given as {type(config).__name__}: give the fields by name.")
        named = config.get("_class_name")
        if named not in (None, cls.__name__):
            raise UserError(f"this is the configuration of an {named}: open it with that class, not {cls.__name__}.")
        # `auto_map` is for loading without this package, and no field of the model
        config = {name: value for name, value in config.items() if name != "auto_map"}
        check_fields(cls, {**config, **kwargs}, "this")
        inherited: Any = super()
        try:
            made = inherited.from_config(config, *args, **kwargs)
        except UserError:
            raise
        except Exception as error:  # what impossible sizes lead to has no common class
            raise UserError(f"no {cls.__name__} can be built from this configuration: {reason(error)}.") from error
        use_recorded_padding(made[0] if isinstance(made, tuple) else made)
        return made

    @wraps(ModelMixin.save_pretrained, assigned=())  # pipelines read its signature
    def save_pretrained(
        self, save_directory: str | os.PathLike, *args: Any, push_to_hub: bool = False, **kwargs: Any
    ) -> None:
        """As diffusers' `ModelMixin.save_pretrained`, as safetensors only.

        Raises:
            ValueError: if a pickle is asked for, or a push, which would upload everything in the folder, or if a weight
                is NaN or infinite.
        """
        if kwargs.get("safe_serialization") is False:
            raise ValueError(f"safe_serialization=False: {NO_PICKLE}")
        if push_to_hub:
            raise ValueError(
                "save_pretrained(push_to_hub=True) would upload the whole folder: call push_to_hub(repo_id)."
            )
        inherited: Any = super()
        model: Any = self
        check_finite(model.state_dict(), "the weights", NOT_SAVED)
        with plain_names(model):
            inherited.save_pretrained(save_directory, *args, **kwargs)

    def push_to_hub(
        self,
        repo_id: str,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        create_pr: bool = False,
        safe_serialization: bool = True,
        variant: str | None = None,
        subfolder: str | None = None,
    ) -> str:
        """Publish weights, configuration and card, see `vae_plugin.hub.push`; the arguments are those of diffusers.

        Returns:
            The address of the commit.

        Raises:
            ValueError: for a pickle, a variant or a subfolder, and where this package is not installed.
        """
        if not safe_serialization:
            raise ValueError(f"safe_serialization=False: {NO_PICKLE}")
        if variant is not None or subfolder is not None:
            raise ValueError("push_to_hub does not take a variant or a subfolder: push to a repository of its own.")
        if _publish is None:  # code of a trusted repository, loaded without the package
            raise ValueError("push_to_hub needs vae-plugin: install it, and load the model with its own class.")
        return _publish(
            self, repo_id, commit_message=commit_message, private=bool(private), token=token, create_pr=create_pr
        )
