"""Two labs at the same latent, or at the same image."""

from __future__ import annotations

from typing import Literal

import torch
import traitlets

from vae_plugin.errors import UserError
from vae_plugin.widgets.images import as_image
from vae_plugin.widgets.recipe import given
from vae_plugin.widgets.session import Session
from vae_plugin.widgets.state import given_state
from vae_plugin.wording import shown

What = Literal["latent", "image"]


class Link:
    """Lets each of two labs follow the other, until `unlink` is called.

    Args:
        first: a lab and its session.
        second: another lab and its session.
        what: "latent", for models with the same latents; or "image", which each model encodes itself.

    Raises:
        UserError: if the latents cannot be the same.
    """

    def __init__(
        self, first: tuple[traitlets.HasTraits, Session], second: tuple[traitlets.HasTraits, Session], what: What
    ) -> None:
        shapes = [tuple(session.codec.latent_shape) for _, session in (first, second)]
        if what not in ("latent", "image"):
            raise UserError(f'what is {shown(what)}: give "latent" or "image".')
        if first[0] is second[0]:
            raise UserError("a lab was linked with itself: give another one.")
        if what == "latent" and shapes[0] != shapes[1]:
            raise UserError(
                f'labs with latents of shapes {shapes[0]} and {shapes[1]} were linked: give what="image" for these.'
            )
        pass_on = self._pass_latent if what == "latent" else self._pass_image
        self._seen: tuple[torch.Tensor, ...] = ()  # the image that both labs have, as each has it
        self._observers = [
            (first[0], lambda _: pass_on(first[1], second[1])),
            (second[0], lambda _: pass_on(second[1], first[1])),
        ]
        for lab, observer in self._observers:
            lab.observe(observer, "latent")
        self._observers[0][1](None)

    def unlink(self) -> None:
        """Let each lab go its own way."""
        while self._observers:
            lab, observer = self._observers.pop()
            lab.unobserve(observer, "latent")

    def _pass_latent(self, source: Session, target: Session) -> None:
        latent = source.state.latent
        if not torch.equal(target.state.latent, latent):
            name = source.state.name
            state = given_state(latent, name, given(name, latent))
            target.change(lambda _: state, gesture=source.history.gesture)

    def _pass_image(self, source: Session, target: Session) -> None:
        image = source.state.original
        if image is None or any(image is seen for seen in self._seen):  # the latent alone has changed
            return
        codec = target.codec
        pixels = as_image(image, codec.channels, codec.image_size, codec.value_range).clone()
        self._seen = (image, pixels)
        state = target.encoded_state(pixels, source.state.name, None)
        target.change(lambda _: state)


class Linkable(traitlets.HasTraits):
    """A lab, as far as links are concerned."""

    _session: Session

    def link(self, other: Linkable, what: What = "latent") -> Link:
        """Keep this lab and another one at the same latent, or at the same image, as either changes.

        Args:
            other: follows this lab now, and each follows the other from then on.
            what: "latent", to see one latent decoded by two models; or "image", which each model encodes itself.

        Returns:
            The link; its `unlink()` ends it.

        Raises:
            UserError: if the models have latents of different shapes, and `what` is not "image".
        """
        if not isinstance(other, Linkable):
            raise UserError(f"a lab was linked with {shown(other)}: give another LatentLab.")
        return Link((self, self._session), (other, other._session), what)
