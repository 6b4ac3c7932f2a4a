"""`LatentLab`: a latent space under one's fingers, in a notebook."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import torch
import traitlets
from PIL import Image

from ..errors import UserError
from ..files import write_bytes
from . import frontend
from .codec import Codec, open_model, to_rgba
from .images import ImageSet, Labels, as_image
from .model_code import given_line
from .panel import Panel, plain_words
from .pictures import pil, png, still, still_bundle
from .recipe import escaped
from .session import Frame, Session, State
from .shelf import Saved, Shelf, from_safetensors, to_safetensors
from .space import LatentSpace

BUNDLED = Path(__file__).resolve().parent / "circles"
FIRST_PICTURE = 3.0  # seconds that showing a lab waits for its first picture, so that a saved notebook has one

_numbers = count(1)


class Live(traitlets.Any):
    """A trait that has changed when it is another object: tensors and pictures are not compared number by number."""

    def _validate(self, obj: traitlets.HasTraits, value: Any) -> Any:
        return value if obj._cross_validation_lock else self._cross_validate(obj, value)  # also None

    def set(self, obj: traitlets.HasTraits, value: Any) -> None:
        """Validate, keep, and notify unless it is the same object."""
        new = self._validate(obj, value)
        old = obj._trait_values.get(self.name)
        obj._trait_values[self.name] = new
        if new is not old:
            obj._notify_trait(self.name, old, new)


class LatentLab(anywidget.AnyWidget):
    """Encode, decode and calculate with latents, live.

    What it shows can be read and set, and observed as that of any widget: `lab.latent`, `lab.image`, `lab.shelf`.
    `lab.observe(function, "latent")` calls the function after each change; while a latent is dragged in the panel,
    from the thread of the kernel's that has the message, for "image" from the lab's own thread.

    Args:
        model: an autoencoder of this package or of diffusers, a pipeline that has one, or the folder or Hub id of one.
            Default: a small VAE of coloured circles that comes with the package.
        images: to encode, to find the directions that matter and to draw the map: a list of PIL images, paths, arrays
            or tensors; a batch (N, C, H, W) in [-1, 1]; a folder or parquet file; a data set (of torch or of the
            `datasets` library). Default: generated circles.
        labels: what colours the map, `{name: one value per image}` or such a sequence. Default: the factors or labels
            that the data set has.
        resolution: side of the images in pixels. Default: what the model is made for; of others than ours 256.
        max_images: how many of the images to take, evenly spread.

    Raises:
        UserError: if the model or the images are none; the message says what is accepted.
    """

    _esm = frontend.script()
    _css = frontend.style()

    latent = Live(help="The current latent, (C, h, w), float32 on the CPU. Setting it shows what it decodes to.")
    image = Live(help="The picture that is shown, a PIL image. Setting it (any form of image) encodes.")
    shelf = Live(help="Saved latents, by number or name. Setting it takes `Saved`s, or latents by name.")

    _lab = traitlets.Unicode().tag(sync=True)
    _info = traitlets.Dict().tag(sync=True)
    _space = traitlets.Dict().tag(sync=True)
    _points = traitlets.Bytes().tag(sync=True)
    _thumbnails = traitlets.Dict().tag(sync=True)
    _shelf = traitlets.List().tag(sync=True)
    _picture = traitlets.Dict().tag(sync=True)
    _progress = traitlets.List([0, 0]).tag(sync=True)

    def __init__(
        self,
        model: object = None,
        images: Any = None,
        *,
        labels: Mapping[str, Sequence[Any]] | Sequence[Any] | None = None,
        resolution: int | None = None,
        max_images: int = 256,
    ) -> None:
        if max_images < 1:
            raise UserError(f"max_images is {max_images}: give at least 1.")
        codec = Codec(open_model(str(BUNDLED) if model is None else model), resolution)
        image_set = ImageSet(images, codec.channels, codec.image_size, max_images, labels)
        self._session = Session(
            codec,
            image_set,
            on_change=self._changed,
            on_frame=self._framed,
            on_dropped=lambda tag: self._panel.dropped(tag),
            on_error=lambda error: self._panel.fail(error),
        )
        self._panel = Panel(self, self._session)
        self._own_image: Image.Image | None = None
        self._own = threading.local()
        self._own.value = self._session.state.latent
        self._still_shown = False
        self._shown_once = threading.Event()
        super().__init__(_lab=f"lab-{next(_numbers)}-{id(self):x}", latent=self._own.value, shelf=Shelf())
        self._info = self._panel.info()
        self.on_msg(lambda _, content, buffers: self._panel.receive(content, buffers))
        self._session.open_from_set(0)
        self._session.look_around(self._panel.surveying, self._panel.surveyed)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self._session.codec.latent_shape))
        return f"LatentLab({type(self.model).__name__}, latent {shape}): run this cell to use it"

    # --- what Python reads and sets ---

    @property
    def model(self) -> Any:
        """The autoencoder; of a `VQModel` an `AutoencoderVQVAE` with the same weights."""
        return self._session.codec.model

    @property
    def images(self) -> ImageSet:
        """The chosen images: item i is a tensor (C, H, W) in [-1, 1]."""
        return self._session.images

    @property
    def labels(self) -> dict[str, Labels]:
        """What is known of these images."""
        return self._session.images.labels

    @property
    def space(self) -> LatentSpace:
        """Axes and statistics of the images' latents; the first time it waits until they are encoded."""
        if self._session.space is None:
            self.wait()
        return self._session.require_space()

    @property
    def original(self) -> Image.Image | None:
        """The image that the latent was encoded from."""
        original = _original_of(self._session.state)
        return None if original is None else pil(original)

    @property
    def pixels(self) -> torch.Tensor | None:
        """The same as the model took it: (C, H, W) in [-1, 1]."""
        return self._session.state.original

    @property
    def given(self) -> torch.Tensor | None:
        """The latent that was set from Python, as it was before it was edited."""
        return self._session.state.given

    @property
    def indices(self) -> torch.Tensor | None:
        """Codes of the latent, (h, w) or (h, w, codes per place); None for a model without codes."""
        codec, state = self._session.codec, self._session.state
        if not codec.discrete:
            return None
        return codec.native(codec.tokens(state.latent) if state.indices is None else state.indices)

    @property
    def code(self) -> str:
        """Python that repeats how the latent came to be."""
        return self._session.code(self._panel.own_name())

    def encode(self, image: Any, seed: int | None = None) -> torch.Tensor:
        """The latent (C, h, w) of an image of any form, without showing it.

        Args:
            image: a PIL image, path, array or tensor.
            seed: of a sample of the posterior; None for its mean.

        Raises:
            UserError: if it is no image.
        """
        codec = self._session.codec
        encoded = self._session.encode(as_image(image, codec.channels, codec.image_size))
        return encoded.mean if seed is None else encoded.sample(seed)

    def decode(self, latent: torch.Tensor) -> Image.Image:
        """The picture of a latent (C, h, w), without showing it."""
        return pil(to_rgba(self._session.codec.decode(self._checked(latent)[None]))[0])

    def load(self, source: Any) -> torch.Tensor:
        """An image of any form as the model takes it: (C, H, W) in [-1, 1]."""
        return as_image(source, self._session.codec.channels, self._session.codec.image_size)

    def group(self, name: str, value: str | None = None, inside: bool = True) -> torch.Tensor:
        """Latents (n, C, h, w) of the images with a label, see `Session.group`."""
        self.space  # noqa: B018 - waits
        return self._session.group(name, value, inside)

    def keep(self, name: str | None = None) -> Saved:
        """Put the current latent on the shelf."""
        self.shelf = self._session.keep(name)
        return self.shelf[-1]

    def save(self, path: str | Path) -> Path:
        """Write the picture (.png), or the current latent and the shelf (.safetensors).

        Raises:
            UserError: for another ending.
        """
        path = Path(path).expanduser()
        if path.suffix not in (".png", ".safetensors"):
            raise UserError(f"{path.name} is to be saved: give it the ending .png (the picture) or .safetensors.")
        write_bytes(path, self._file("png" if path.suffix == ".png" else "shelf"))
        return path

    def undo(self) -> None:
        """Back to the latent before the last change."""
        self._session.undo()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the lab has nothing to do; whether that was so within `timeout` seconds.

        Raises:
            UserError: if an observer of the lab asks, for which the lab waits.
        """
        if self._session.worker.is_current_thread:
            raise UserError("an observer of the lab cannot wait for it: the lab waits for the observer.")
        return self._session.worker.wait(timeout)

    def close(self) -> None:
        """End the lab's thread and take the lab from the notebook."""
        if hasattr(self, "_session"):  # else it was refused
            self._session.worker.stop()
        super().close()

    # --- traits ---

    @traitlets.validate("latent")
    def _latent_given(self, proposal: dict[str, Any]) -> torch.Tensor:
        value = proposal["value"]
        if value is not None and value is getattr(self._own, "value", None):
            self._own.value = None
            return value
        latent = self._checked(value)
        session = self._session
        line = given_line(latent)
        session.change(lambda _: session.set_latent(latent, "set from Python", line), show=False)
        session.render_now()
        return self._trait_values["latent"]  # a copy of it, of which observers have heard

    @traitlets.validate("image")
    def _image_given(self, proposal: dict[str, Any]) -> Image.Image | None:
        value = proposal["value"]
        if value is not None and value is getattr(self._own, "image", None):
            self._own.image = None
            return value
        session, codec = self._session, self._session.codec
        pixels = as_image(value, codec.channels, codec.image_size)
        name, source = _name_and_source(value)
        state = session.encoded_state(pixels, name, source)
        session.change(lambda _: state, show=False)
        session.render_now()
        return self._own_image

    @traitlets.validate("shelf")
    def _shelf_given(self, proposal: dict[str, Any]) -> Shelf:
        value = proposal["value"]
        if isinstance(value, Mapping):
            value = [self._saved(latent, str(name)) for name, latent in value.items()]
        if not isinstance(value, (list, tuple)):
            raise UserError(f"a shelf was given as {type(value).__name__}: give a list of latents, or latents by name.")
        shelf = Shelf(self._saved(item, f"latent {i}") for i, item in enumerate(value))
        self._session.shelf = shelf
        self._panel.show_shelf(shelf)
        return shelf

    def _saved(self, latent: Any, name: str) -> Saved:
        if not isinstance(latent, Saved):
            return Saved(name, self._checked(latent))
        return replace(latent, latent=self._checked(latent.latent))

    def _checked(self, latent: Any) -> torch.Tensor:
        shape = tuple(self._session.codec.latent_shape)
        try:
            z = torch.as_tensor(latent).detach().cpu()
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"a latent was given as {type(latent).__name__}: give a tensor {shape}.") from error
        if not z.is_floating_point() or z.is_complex():
            raise UserError(f"a latent was given as a tensor of {z.dtype}: give floats, of shape {shape}.")
        flat = self._session.codec.flat and z.numel() == shape[0] and z.ndim <= 2
        if flat or (z.ndim == 4 and len(z) == 1 and tuple(z.shape[1:]) == shape):
            z = z.reshape(shape)
        if tuple(z.shape) != shape:
            raise UserError(f"a latent of shape {tuple(z.shape)} was given: this model's have the shape {shape}.")
        if not torch.isfinite(z).all():
            raise UserError("a latent was given that is not finite: it has NaN or infinity.")
        return z.float().clone()

    # --- what the session tells ---

    def _changed(self) -> None:
        # The newest, whichever thread comes last; a copy, which its user may change. The validator knows it by its
        # identity, in this thread only, and takes everything else for the user's.
        self._own.value = self._session.state.latent.clone()
        try:
            self.latent = self._own.value
        except Exception as error:  # of an observer
            self._panel.fail(error)
        finally:
            self._own.value = None

    def _framed(self, frame: Frame) -> None:
        rgba = to_rgba(frame.image[None])[0]
        self._panel.send_frame(frame, rgba)
        if frame.preview:
            return
        self._own_image = self._own.image = pil(rgba)
        self._shown_once.set()
        try:
            self.image = self._own_image
        except Exception as error:  # of an observer, which runs in this thread
            self._panel.fail(error)
        finally:
            self._own.image = None
        self._session.worker.settle(lambda: self._publish(frame, rgba), 0.4)

    def _publish(self, frame: Frame, rgba: Any) -> None:
        """Put the last picture where a saved notebook has it."""
        original = _original_of(frame.state)
        self._picture = self._panel.picture(frame, rgba, original)
        if self._still_shown:
            self._show_still(frame.state, rgba, original, update=True)

    def _show_still(self, state: State, rgba: Any, original: Any, update: bool) -> None:
        from IPython.display import display

        bundle = still_bundle(self._lab, still(original, rgba), f"Latent Lab: {plain_words(state.name)}")
        display(bundle, raw=True, display_id=self._lab, update=update)

    def _ipython_display_(self) -> None:
        """Show the lab, and beside it the picture that a notebook file keeps; the live lab hides that."""
        from IPython.display import display

        self._shown_once.wait(FIRST_PICTURE)
        bundle = self._repr_mimebundle_()
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        display(data, raw=True)
        state, image = self._session.state, self._own_image
        if image is not None and not self._still_shown:
            self._still_shown = True
            self._show_still(state, _rgba_of(image), _original_of(state), update=False)

    def _file(self, what: str) -> bytes:
        """The bytes of a file: "png", "latent" or "shelf"."""
        state = self._session.state
        if what == "png":
            image = self._session.codec.decode_full(state.latent, state.indices)
            return png(to_rgba(image[None])[0])
        current = Saved("current", state.latent, state.indices, state.recipe)
        items = Shelf([current, *(self.shelf if what == "shelf" else ())])
        metadata = {"made_by": "vae_plugin.widgets.LatentLab", "model": type(self.model).__name__, "code": self.code}
        return to_safetensors(items, metadata)

    def _open_file(self, name: str, data: bytes, tag: Any = None) -> None:
        """An image is encoded, the latents of a safetensors file go to the shelf."""
        if name.lower().endswith(".safetensors"):
            items = from_safetensors(data, self._session.codec)
            self.shelf = [*self.shelf, *items]
            self._session.take(self.shelf[-len(items)].key, tag=tag)
            return
        # Only its bytes have come here, so that there is nothing to load again.
        self._session.open_image(data, name, f"{{lab}}.pixels  # {escaped(name)}", tag=tag)


def _name_and_source(value: Any) -> tuple[str, str]:
    """What to call an image that was set from Python, and the Python that gives it."""
    path = value if isinstance(value, (str, Path)) else getattr(value, "filename", None)
    if path:
        return Path(path).name, f"{{lab}}.load({escaped(repr(str(path)))})"
    return "set from Python", "{lab}.pixels"


def _original_of(state: State) -> np.ndarray | None:
    """The picture (H, W, 4) of the image that a state was encoded from."""
    return None if state.original is None else to_rgba(state.original[None])[0]


def _rgba_of(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGBA"))
