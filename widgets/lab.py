"""`LatentLab`: explore a latent space by hand, in a notebook."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import torch
import traitlets
from PIL import Image

from vae_plugin.arguments import Instance, Real, Whole, accepts
from vae_plugin.errors import UserError
from vae_plugin.files import write_bytes
from vae_plugin.widgets import frontend
from vae_plugin.widgets.codec import SEED, Codec, open_model
from vae_plugin.widgets.given import as_latent, as_saved, name_and_source
from vae_plugin.widgets.image_set import ImageSet, Labels
from vae_plugin.widgets.images import as_image
from vae_plugin.widgets.linking import Linkable
from vae_plugin.widgets.live import Live
from vae_plugin.widgets.model_source import BUNDLED, ModelSource
from vae_plugin.widgets.notebook import Still, model_in_notebook
from vae_plugin.widgets.outlet import Outlet
from vae_plugin.widgets.panel import Panel
from vae_plugin.widgets.pictures import pil
from vae_plugin.widgets.recipe import given
from vae_plugin.widgets.rendering import Frame
from vae_plugin.widgets.session import Session
from vae_plugin.widgets.shelf import TEXT, Saved, Shelf
from vae_plugin.widgets.shelf_view import ShelfView
from vae_plugin.widgets.space import LatentSpace
from vae_plugin.widgets.state import given_state
from vae_plugin.widgets.views import FrameView, model_info, original_rgba, publish_space, thumbnail_steps
from vae_plugin.wording import shown

PLACE = Instance((str, os.PathLike), "the path of a file")
OPTIONAL_TEXT = Instance((str,), "text", optional=True)
SET = "set from Python"
PUBLISH = 0.4  # seconds of quiet before the last picture goes where a saved notebook keeps it

_numbers = count(1)


class LatentLab(Linkable, anywidget.AnyWidget):
    """Encode, decode and calculate with latents, live.

    `lab.latent`, `lab.image`, `lab.shelf` and `lab.selection` can be read, set and observed like the traits of any
    widget. `lab.observe(function, "latent")` calls the function after each change: during a drag in the panel, from the
    kernel thread that has the message; for "image", from the lab's own thread. `lab.changes` grows when the user has
    ended a change in the panel: marimo runs the cells again that use `mo.ui.anywidget(lab)`.

    Args:
        model: an autoencoder of this package or of diffusers, a pipeline that has one, or the folder or Hub id of one.
            Default: a small VAE of coloured circles that comes with the package.
        images: images to encode, to find the directions that matter and to draw the map: a list of PIL images, paths,
            arrays or tensors; a batch (N, C, H, W) in [-1, 1]; a folder or parquet file; a data set (of torch or of the
            `datasets` library). Default: generated circles.
        labels: colours of the map, `{name: one value per image}` or one such sequence. Default: the factors or labels
            of the data set.
        resolution: side of the images in pixels. Default: what the model is made for; for models of other packages,
            256.
        max_images: how many of the images to use, evenly spread.
        bands: of images of many bands to show, counted from 0: one in gray, or three as red, green and blue. Default:
            of more than 4 the first three, of 2 the first in gray.
        value_range: the values of image files that become -1 and 1. Default: what the config of the model records, or
            what their type says.

    Raises:
        UserError: if the model or the images cannot be used; the message says what is accepted.
    """

    _esm = frontend.script()
    _css = frontend.style()

    latent = Live[torch.Tensor](help="The current latent, (C, h, w), float32 on the CPU. Set it to decode another.")
    image = Live[Image.Image | None](help="The decoded picture, a PIL image. Set it, to any form of image, to encode.")
    selection = Live[tuple[int, ...]](
        help="Numbers of the images that are selected on the map. Set it to select others."
    )
    shelf = Live[Shelf](help="Saved latents, by number or name. Set it to a list of latents, or to latents by name.")

    changes = traitlets.Int(help="How many times the user has changed something in the panel.").tag(sync=True)

    _lab = traitlets.Unicode().tag(sync=True)
    _info = traitlets.Dict().tag(sync=True)
    _space = traitlets.Dict().tag(sync=True)
    _points = traitlets.Bytes().tag(sync=True)
    _thumbnails = traitlets.Dict().tag(sync=True)
    _shelf = traitlets.List(traitlets.Dict()).tag(sync=True)
    _shelf_pictures = traitlets.Dict().tag(sync=True)  # that the front end has asked for, for saved notebooks
    _picture = traitlets.Dict().tag(sync=True)
    _bands = traitlets.List(traitlets.Int()).tag(sync=True)
    _selection = traitlets.List(traitlets.Int()).tag(sync=True)
    _progress = traitlets.List(traitlets.Int(), [0, 0]).tag(sync=True)
    _problems = traitlets.List(traitlets.Dict()).tag(sync=True)

    @accepts(resolution=Whole(1, optional=True), max_images=Whole(1))
    def __init__(
        self,
        model: object = None,
        images: Any = None,
        *,
        labels: Mapping[str, Sequence[Any]] | Sequence[Any] | None = None,
        resolution: int | None = None,
        max_images: int = 256,
        bands: Sequence[int] | int | None = None,
        value_range: Sequence[float] | None = None,
    ) -> None:
        codec = Codec(open_model(str(BUNDLED) if model is None else model), resolution, bands, value_range)
        image_set = ImageSet(images, codec.channels, codec.image_size, max_images, labels, codec.value_range)
        outlet = self._outlet = Outlet(self)
        session = self._session = Session(
            codec,
            image_set,
            ModelSource(model, codec, lambda: model_in_notebook(codec.model, self)),
            on_change=self._publish_latent,
            on_frame=self._show_frame,
            on_failed=outlet.drop,
        )
        self._frames = FrameView(session, outlet)
        self._shelf_view = ShelfView(session.keeper, codec, session.worker, outlet)
        self._panel = Panel(session, outlet, self._frames, self._shelf_view)
        key = f"lab-{next(_numbers)}-{id(self):x}"
        self._still = Still(key, codec.shown)
        super().__init__(_lab=key, _info=model_info(codec, image_set), _bands=list(codec.shown.chosen or ()))
        type(self).latent.publish(self, session.state.latent)
        type(self).shelf.publish(self, session.keeper.shelf)
        session.keeper.observe(lambda shelf: type(self).shelf.publish(self, shelf))
        type(self).selection.publish(self, ())
        session.selection.observe(self._show_selection)
        codec.shown.observe(self._show_bands)
        self.on_msg(lambda _, content, buffers: self._panel.receive(content, buffers))
        try:
            session.renderer.show_and_wait()
        except BaseException:
            self.close()
            raise
        session.worker.background(
            session.survey.steps(
                progress=lambda seen, total: outlet.publish(progress=[seen, total]),
                found=lambda space: publish_space(space, session, outlet),
                incomplete=outlet.keep,
            )
        )

    def __repr__(self) -> str:
        if self._session.worker.stopped:
            return "This LatentLab was closed: make a new one."
        shape = "x".join(map(str, self._session.codec.latent_shape))
        return f"LatentLab({self._session.codec.adapter.class_name}, latent {shape}): run this cell to use it"

    # --- what Python reads ---

    @property
    def model(self) -> Any:
        """The autoencoder; for a `VQModel`, an `AutoencoderVQVAE` with the same weights."""
        return self._session.codec.model

    @property
    def images(self) -> ImageSet:
        """The selected images: item i is a tensor (C, H, W) in [-1, 1]."""
        return self._session.images

    @property
    def labels(self) -> dict[str, Labels]:
        """Labels of the images, by name."""
        return self._session.images.labels

    @property
    def space(self) -> LatentSpace:
        """Axes and statistics of the images' latents: waits until all are encoded; `len(lab.space)` says how many."""
        return self._wait_for_space()

    @property
    def left_out(self) -> dict[str, str]:
        """Why images cannot be used and are left out of `space`, by name; complete once that was read."""
        return dict(self._session.survey.left_out)

    @property
    def original(self) -> Image.Image | None:
        """The image that the latent was encoded from."""
        original = original_rgba(self._session.state, self.bands)
        return None if original is None else pil(original)

    @property
    def bands(self) -> tuple[int, ...] | None:
        """The bands that are shown, counted from 0: one in gray, or three as red, green and blue. Set it to see others.

        None for gray, RGB and RGBA images as they are.
        """
        return self._session.codec.shown.chosen

    @bands.setter
    def bands(self, bands: Sequence[int] | int | None) -> None:
        self._session.codec.shown.choose(bands)
        self._session.renderer.show_and_wait()

    @property
    def pixels(self) -> torch.Tensor | None:
        """The same image as the model's input: (C, H, W) in [-1, 1]."""
        return self._session.state.original

    @property
    def given(self) -> torch.Tensor | None:
        """The latent that was set from Python, before it was edited."""
        return self._session.state.given

    @property
    def indices(self) -> torch.Tensor | None:
        """Indices of the latent, (h, w) or (h, w, indices per position); None for a model without a codebook."""
        codec, state = self._session.codec, self._session.state
        if not codec.discrete:
            return None
        return codec.native(codec.indices(state.latent) if state.indices is None else state.indices)

    @property
    def code(self) -> str:
        """Python that makes the current latent and its picture again, in any kernel."""
        return self._session.code

    # --- what Python calls ---

    @accepts(seed=SEED)
    def encode(self, image: Any, seed: int | None = None) -> torch.Tensor:
        """Encode an image of any form to its latent (C, h, w), without showing it.

        Args:
            image: a PIL image, path, array or tensor.
            seed: seed of a posterior sample; None for the posterior's mean.

        Raises:
            UserError: if it is not an image.
        """
        encoded = self._session.encode(self.load(image))
        return encoded.mean if seed is None else encoded.sample(seed)

    def decode(self, latent: torch.Tensor) -> Image.Image:
        """Decode a latent (C, h, w), without showing it."""
        codec = self._session.codec
        return pil(codec.to_rgba(codec.decode(as_latent(latent, codec)[None]))[0])

    def load(self, source: Any) -> torch.Tensor:
        """Convert an image of any form to the model's input: (C, H, W) in [-1, 1]."""
        return as_image(
            source,
            self._session.codec.channels,
            self._session.codec.image_size,
            self._session.codec.value_range,
        )

    @accepts(name=TEXT, value=OPTIONAL_TEXT, inside=Instance((bool, np.bool_), "True or False"))
    def group(self, name: str, value: str | None = None, inside: bool = True) -> torch.Tensor:
        """Latents (N, C, h, w) of the images with a label, see `Survey.group`."""
        self._wait_for_space()
        return self._session.survey.group(name, value, inside)

    @accepts(i=Whole(0))
    def encoded(self, i: int) -> Saved:
        """The latent of image i of `images`; the first call waits until they are encoded."""
        self._wait_for_space()
        return self._session.operands.of_image(i)

    @accepts(name=OPTIONAL_TEXT)
    def keep(self, name: str | None = None) -> Saved:
        """Put the current latent on the shelf."""
        return self._session.keep(name)

    @accepts(path=PLACE)
    def save(self, path: str | Path) -> Path:
        """Write the picture (.png), or the current latent and the shelf (.safetensors).

        Raises:
            UserError: if the path has another suffix.
        """
        path = Path(os.path.expanduser(path))
        if path.suffix.lower() == ".png":
            write_bytes(path, self._session.picture_file())
        elif path.suffix.lower() == ".safetensors":
            write_bytes(path, self._session.latents_file(with_shelf=True))
        else:
            raise UserError(
                f"cannot save as {shown(path.name)}: use the suffix .png (the picture) or .safetensors (latents)."
            )
        return path

    @accepts(path=PLACE, onnxruntime_web=Instance((str, os.PathLike), "the path of a folder or file", optional=True))
    def export_html(self, path: str | Path, *, onnxruntime_web: str | Path | None = None) -> Path:
        """Write the lab, as it is now, as one HTML file that needs neither a kernel nor a network.

        Its decoder runs in the browser, so only a small model can be written. It cannot encode: the page has the images
        of this lab, with their latents.

        Args:
            path: the file to write.
            onnxruntime_web: folder or tarball of that npm package, where it cannot be fetched.

        Raises:
            UserError: if the decoder is too large for a browser or cannot be exported; the message gives the limit.
        """
        from vae_plugin.widgets.page import write_page

        path = Path(os.path.expanduser(path))
        self.wait()
        self._session.survey.require_space()
        traits = {name: getattr(self, name) for name in LatentLab.class_own_traits(sync=True)}
        pictures = self._shelf_view.pictures()
        traits["_shelf"] = [{**item, "png": pictures[item["key"]]} for item in traits["_shelf"]]
        runtime = None if onnxruntime_web is None else Path(os.path.expanduser(onnxruntime_web))
        write_page(self._session, traits, path, f"Latent Lab: {self._session.codec.adapter.class_name}", runtime)
        return path

    def undo(self) -> None:
        """Return to the latent before the last change."""
        self._session.undo()

    @accepts(timeout=Real(0, threading.TIMEOUT_MAX, optional=True))
    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the lab has nothing to do; returns whether that happened within `timeout` seconds.

        Raises:
            UserError: if called by an observer that the lab itself is waiting for.
        """
        if self._session.worker.is_current_thread:
            raise UserError("an observer of the lab cannot wait for it: the lab is waiting for the observer.")
        return self._session.worker.wait(timeout)

    def close(self) -> None:
        """Stop the lab's thread and remove the lab from the notebook."""
        if hasattr(self, "_session"):  # else its arguments were refused
            self._session.worker.stop()
        super().close()

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take over what a front end sets, `changes` and the layout; all else of the lab is the kernel's alone."""
        own = {*LatentLab.class_own_traits(sync=True), "_esm", "_css"} - {"changes"}
        super().set_state({name: value for name, value in sync_data.items() if name not in own})

    def _wait_for_space(self) -> LatentSpace:
        if not self._session.survey.complete:
            self.wait()
        return self._session.survey.require_space()

    # --- what Python sets ---

    @traitlets.validate("latent")
    def _set_latent(self, proposal: dict[str, Any]) -> torch.Tensor:
        latent = as_latent(proposal["value"], self._session.codec)
        self._session.change_and_wait(given_state(latent, SET, given(SET, latent)))
        return self._trait_values["latent"]  # a copy, published meanwhile

    @traitlets.validate("image")
    def _set_image(self, proposal: dict[str, Any]) -> Image.Image | None:
        value = proposal["value"]
        pixels = self.load(value)
        name, source = name_and_source(value, pixels, self._session.codec)
        self._session.change_and_wait(self._session.encoded_state(pixels, name, source))
        return self._trait_values["image"]

    @traitlets.validate("selection")
    def _set_selection(self, proposal: dict[str, Any]) -> tuple[int, ...]:
        self._session.selection.choose(proposal["value"])
        return self._session.selection.rows

    @traitlets.validate("shelf")
    def _set_shelf(self, proposal: dict[str, Any]) -> Shelf:
        self._session.keeper.replace(as_saved(proposal["value"], self._session.codec))
        return self._trait_values["shelf"]

    # --- what the session tells ---

    def _publish_latent(self) -> None:
        # The newest, whichever thread comes last; a copy, which its user may change.
        try:
            type(self).latent.publish(self, self._session.state.latent.clone())
        except Exception as error:  # an observer's
            self._outlet.keep(error)

    def _show_frame(self, frame: Frame) -> None:
        rgba = self._session.codec.to_rgba(frame.image[None])[0]
        self._frames.send(frame, rgba)
        if frame.preview:
            return
        try:
            type(self).image.publish(self, pil(rgba))
        except Exception as error:  # an observer's, which runs in this thread
            self._outlet.keep(error)
        self._session.worker.settle(lambda: self._leave_picture(frame, rgba), PUBLISH)

    def _show_selection(self, rows: tuple[int, ...]) -> None:
        self._outlet.publish(selection=list(rows))
        type(self).selection.publish(self, rows)

    def _show_bands(self) -> None:
        self._outlet.publish(bands=list(self.bands or ()))
        space = self._session.survey.space
        if space is not None:
            self._session.worker.background(thumbnail_steps(space, self._session, self._outlet), soon=True)

    def _leave_picture(self, frame: Frame, rgba: np.ndarray) -> None:
        """Put the last picture where a saved notebook keeps it."""
        self._frames.publish(frame, rgba)
        self._still.update(frame.state, rgba)

    def _ipython_display_(self) -> None:
        """Show the lab, and beside it the picture that a notebook file keeps."""
        from IPython.display import display

        if self._session.worker.stopped:
            display({"text/plain": repr(self)}, raw=True)
            return
        bundle = self._repr_mimebundle_()
        display(bundle[0] if isinstance(bundle, tuple) else bundle, raw=True)
        if self.image is not None:
            self._still.show(self._session.state, np.asarray(self.image.convert("RGBA")))
