"""The part of a model that is another for each family of pipelines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers.configuration_utils import FrozenDict

from .presentation import FAMILY_NAMES, PRESENTATIONS, SHOWN, Presentation


class Presented:
    """A model whose `config` and attributes are those that pipelines of its `pipeline_family` read.

    What is saved are the model's own fields; the others follow from them.
    """

    _internal_dict: FrozenDict  # of diffusers: the model's own fields
    _shown: FrozenDict | None

    @property
    def presentation(self) -> Presentation:
        """What its family of pipelines makes different."""
        return PRESENTATIONS[self._internal_dict.get("pipeline_family")]

    @property
    def config(self) -> Any:
        """The configuration, with the fields that pipelines of the family read."""
        return self._shown or self._internal_dict

    def register_to_config(self, **fields: Any) -> None:
        """Set fields of the configuration.

        Raises:
            ValueError: if there is no such family of pipelines.
        """
        family = fields.get("pipeline_family")
        if family not in tuple(PRESENTATIONS):
            raise ValueError(f"pipeline_family is {family!r}: it must be one of {', '.join(FAMILY_NAMES)}, or None.")
        inherited: Any = super()
        inherited.register_to_config(**fields)
        shown = self.presentation.fields(self._internal_dict)
        # diffusers notes which fields were left out, and would not read those from a config
        left_out = [name for name in self._internal_dict.get("_use_default_values", ()) if name not in shown]
        extended = {**self._internal_dict, **shown, "_use_default_values": left_out}
        self._shown = FrozenDict(extended) if shown else None

    @classmethod
    def from_config(cls, config: Any, *args: Any, **kwargs: Any) -> Any:
        """As diffusers' `ConfigMixin.from_config`; the `config` of a model may be given, too."""
        inherited: Any = super()
        if isinstance(config, Mapping) and "pipeline_family" in config:
            known = inherited._get_init_keys(cls)
            config = {name: value for name, value in config.items() if name in known or name not in SHOWN}
        return inherited.from_config(config, *args, **kwargs)


def _attribute(name: str) -> property:
    def read(model: Any) -> Any:
        made = model.presentation.attributes.get(name)
        if made is None:
            raise AttributeError(name)
        return made(model)

    return property(read)


for _name in sorted({name for presentation in PRESENTATIONS.values() for name in presentation.attributes}):
    setattr(Presented, _name, _attribute(_name))
