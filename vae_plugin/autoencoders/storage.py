"""Loading, saving and pushing of our models: safetensors only, their own class only, with a real card."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from diffusers.models.modeling_utils import ModelMixin

from .offload import restore_buffers

NO_PICKLE = "Weights in a pickle (.bin) are not opened, because a pickle can run code: convert them to safetensors."

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
        """As diffusers' `ModelMixin.from_pretrained`, from safetensors only.

        Args:
            pretrained_model_name_or_path: folder or Hub id.
            kwargs: those of diffusers: `subfolder`, `revision`, `torch_dtype`, `variant`, ...

        Raises:
            ValueError: if a pickle is asked for, or the weights belong to another class.
            OSError: if there are no such weights.
        """
        if kwargs.get("use_safetensors") is False:
            raise ValueError(f"use_safetensors=False: {NO_PICKLE}")
        if kwargs.get("low_cpu_mem_usage") is False and getattr(cls, "_keep_in_fp32_modules", None):
            kwargs.pop(
                "low_cpu_mem_usage"
            )  # which diffusers refuses where modules stay in float32; the result is equal
        inherited: Any = super()
        try:
            loaded = inherited.from_pretrained(pretrained_model_name_or_path, **{**kwargs, "use_safetensors": True})
        except OSError as error:
            if ".safetensors" not in str(error):
                raise
            raise OSError(f"{' '.join(str(error).split())} {NO_PICKLE}") from error
        restore_buffers(loaded[0] if isinstance(loaded, tuple) else loaded)  # a tuple with output_loading_info
        return loaded

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As diffusers' `ConfigMixin.from_config`, for the config of this class only.

        Raises:
            ValueError: if the config names another class.
        """
        named = config.get("_class_name") if isinstance(config, Mapping) else None
        if named not in (None, cls.__name__):
            raise ValueError(f"this is the configuration of an {named}: open it with that class, not {cls.__name__}.")
        if isinstance(config, Mapping):  # `auto_map` is for loading without this package, and no field of the model
            config = {name: value for name, value in config.items() if name != "auto_map"}
        inherited: Any = super()
        return inherited.from_config(config, *args, **kwargs)

    @wraps(ModelMixin.save_pretrained, assigned=())  # pipelines read its signature
    def save_pretrained(
        self, save_directory: str | os.PathLike, *args: Any, push_to_hub: bool = False, **kwargs: Any
    ) -> None:
        """As diffusers' `ModelMixin.save_pretrained`, as safetensors only.

        Raises:
            ValueError: if a pickle is asked for, or a push, which would upload everything in the folder.
        """
        if kwargs.get("safe_serialization") is False:
            raise ValueError(f"safe_serialization=False: {NO_PICKLE}")
        if push_to_hub:
            raise ValueError(
                "save_pretrained(push_to_hub=True) would upload the whole folder: call push_to_hub(repo_id)."
            )
        inherited: Any = super()
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
