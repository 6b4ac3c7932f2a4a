"""How convolutions pad the borders of what they read: by zeros, or as the config of a model records it.

Community "EQ" VAEs are trained, and have to be used, with `padding_mode = "reflect"` at every `Conv2d` that pads. No
class of diffusers has a field for it, so it is recorded under a name with an underscore, which diffusers keeps in a
config and does not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ..errors import UserError
from ..wording import either, shown

PADDING_KEY = "_padding_mode"
PADDING_MODES = ("zeros", "reflect", "replicate")


def padded_convolutions(model: nn.Module) -> list[nn.Conv2d]:
    """The convolutions that pad.

    Not among them are those of stride 2 in the encoder of `AutoencoderKL` and its kin: their input gets a row and a
    column of zeros by `F.pad`, also in the community's models.
    """
    return [m for m in model.modules() if isinstance(m, nn.Conv2d) and any(m.padding)]


def padding_misfit(config: Mapping[str, Any]) -> str | None:
    """What is wrong with the mode that a config records, in a clause; None if nothing."""
    mode = config.get(PADDING_KEY)
    if mode is None or mode in PADDING_MODES:
        return None
    return f"{PADDING_KEY} is {shown(mode)}, expected {either(PADDING_MODES)}"


def recorded_padding(config: Mapping[str, Any]) -> str | None:
    """The mode that a config records, of `PADDING_MODES`; None if it records none.

    Raises:
        UserError: if it is another one.
    """
    misfit = padding_misfit(config)
    if misfit is not None:
        raise UserError(f"the configuration of this model cannot be: {misfit}.")
    return config.get(PADDING_KEY)


def padding_mode(model: Any) -> str:
    """The mode of a model: the recorded one, or what all its convolutions have; "zeros" where there are none."""
    modes = {conv.padding_mode for conv in padded_convolutions(model)}
    return recorded_padding(model.config) or (modes.pop() if len(modes) == 1 else "zeros")


def set_padding_mode(model: Any, mode: str) -> None:
    """Let the convolutions pad in that mode, and record it in the config.

    Args:
        model: of diffusers or of ours.
        mode: of `PADDING_MODES`.

    Raises:
        UserError: for another mode, and for a model that has no such convolutions, or mixes modes of its own.
    """
    recorded_padding({PADDING_KEY: mode})
    recorded, modes = recorded_padding(model.config), {conv.padding_mode for conv in padded_convolutions(model)}
    if not modes and mode != "zeros":
        raise cannot_pad(type(model).__name__, mode, "no convolution of its own pads")
    if recorded is None and len(modes) > 1:
        raise cannot_pad(
            type(model).__name__, mode, f"its convolutions pad in ways of their own ({', '.join(sorted(modes))})"
        )
    if recorded is None and modes <= {"zeros"} and mode == "zeros":
        return  # as every model without a record
    convolution: Any
    for convolution in padded_convolutions(model):
        convolution.padding_mode = mode
    model.register_to_config(**{PADDING_KEY: mode})


def cannot_pad(class_name: str, mode: str, reason: str) -> UserError:
    """The error for a mode that a model cannot have."""
    return UserError(f"--padding_mode {mode} cannot be given to this {class_name}: {reason}.")


def use_recorded_padding(model: Any) -> None:
    """Let the convolutions pad as the config records; without a record nothing happens."""
    mode = recorded_padding(model.config)
    if mode is not None:
        set_padding_mode(model, mode)


def copy_padding(source: Any, target: Any) -> None:
    """Let a model that was converted from another one pad as that does, also where it is not recorded there."""
    if PADDING_KEY in source.config or padding_mode(source) != "zeros":
        set_padding_mode(target, padding_mode(source))


def how_to_pad(model: Any) -> str | None:
    """What users of other tools must know, in a sentence; None of a model that pads by zeros, as they do."""
    mode = recorded_padding(model.config)
    if mode in (None, "zeros"):
        return None
    return (
        f"Its convolutions pad by {mode} ({PADDING_KEY} in its config), which other tools do not read: they decode "
        f"other borders. In torch: [setattr(m, 'padding_mode', {mode!r}) for m in vae.modules() if isinstance(m, "
        "torch.nn.Conv2d) and any(m.padding)]"
    )


def check_reflected_size(model: Any, latent_size: Sequence[int], ratio: int, what: str) -> None:
    """Refuse images that leave too few positions to be reflected: a border needs more of them than it adds.

    Args:
        model: any.
        latent_size: height and width of the latents, where the positions are fewest.
        ratio: pixels per position, along one side.
        what: the images, for the error.

    Raises:
        UserError: for such images.
    """
    if recorded_padding(model.config) != "reflect":
        return
    added = max(side for conv in padded_convolutions(model) for side in conv.padding if isinstance(side, int))
    if min(latent_size) <= added:
        raise UserError(
            f"{what} is too small for this {type(model).__name__}, whose convolutions pad by reflection (its config "
            f"says so): give at least {ratio * (added + 1)} pixels a side."
        )
