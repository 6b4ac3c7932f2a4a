"""How our models are loaded, saved and pushed: as safetensors, as their own class, with a card that tells of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ClassVar

from diffusers.models.modeling_utils import ModelMixin

NO_PICKLE = "Weights in a pickle (.bin) are not opened, since they can run code: convert them to safetensors."


class SafeStorage:
    """`from_pretrained`, `save_pretrained` and `push_to_hub` of diffusers' `ModelMixin`, without their traps.

    diffusers falls back to a pickle where it does not reach the safetensors, loads another class's weights in silence,
    and its push replaces cards and uploads whatever lies in the folder.

    Attributes:
        publish: what `push_to_hub` calls, handed in by the package (publishing stands above what is published).
    """

    publish: ClassVar[Callable[..., str] | None] = None

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> Any:
        """As diffusers' `ModelMixin.from_pretrained`, from safetensors only.

        Args:
            pretrained_model_name_or_path: folder or id on the Hub.
            kwargs: as diffusers has them: `subfolder`, `revision`, `torch_dtype`, `variant`, ...

        Raises:
            ValueError: if a pickle is asked for, or the weights are of another class.
            OSError: if there are no such weights.
        """
        if kwargs.get("use_safetensors") is False:
            raise ValueError(f"use_safetensors=False: {NO_PICKLE}")
        try:
            return super().from_pretrained(pretrained_model_name_or_path, **{**kwargs, "use_safetensors": True})
        except OSError as error:
            if ".safetensors" not in str(error):
                raise
            raise OSError(f"{' '.join(str(error).split())} {NO_PICKLE}") from error

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As diffusers' `ConfigMixin.from_config`; the configuration of another class is refused.

        Raises:
            ValueError: if it names another class.
        """
        named = config.get("_class_name") if isinstance(config, Mapping) else None
        if named not in (None, cls.__name__):
            raise ValueError(f"this is the configuration of an {named}: open it with that class, not {cls.__name__}.")
        if isinstance(config, Mapping):  # where code lies for those without this package: no field of the model
            config = {name: value for name, value in config.items() if name != "auto_map"}
        return super().from_config(config, *args, **kwargs)

    @wraps(ModelMixin.save_pretrained, assigned=())  # pipelines look at its signature for what they may give it
    def save_pretrained(
        self, save_directory: str | os.PathLike, *args: Any, push_to_hub: bool = False, **kwargs: Any
    ) -> None:
        """As diffusers' `ModelMixin.save_pretrained`, as safetensors only.

        Raises:
            ValueError: if a pickle is asked for, or a push, which would take all that lies in the folder.
        """
        if kwargs.get("safe_serialization") is False:
            raise ValueError(f"safe_serialization=False: {NO_PICKLE}")
        if push_to_hub:
            raise ValueError("save_pretrained(push_to_hub=True): save it, then call push_to_hub(repo_id).")
        super().save_pretrained(save_directory, *args, **kwargs)

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
        """Publish weights, configuration and card, see `vae_plugin.hub.push`; the arguments are diffusers'.

        Returns:
            The address of the commit.

        Raises:
            ValueError: for a pickle, a variant or a subfolder.
        """
        if not safe_serialization:
            raise ValueError(f"safe_serialization=False: {NO_PICKLE}")
        if variant is not None or subfolder is not None:
            raise ValueError("a variant or a subfolder is not pushed: give it a repository of its own.")
        if SafeStorage.publish is None:
            raise ValueError("push_to_hub needs the package: install vae-plugin, and `import vae_plugin`.")
        return SafeStorage.publish(
            self, repo_id, commit_message=commit_message, private=bool(private), token=token, create_pr=create_pr
        )
