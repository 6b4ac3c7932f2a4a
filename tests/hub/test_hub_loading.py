"""What `import vae_plugin` is for: pipelines and autoencoders that load from a folder and from the Hub.

Where an import matters it is done in a fresh interpreter, by a function that stands on its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines import pipeline_loading_utils
from safetensors.torch import load_file, save_file

from support.hub_server import HubServer
from support.tiny_pipelines import build_dit

CONFIG = {
    "in_channels": 3,
    "block_out_channels": (8, 16),
    "norm_num_groups": 4,
    "latent_channels": 4,
    "sample_size": 16,
}
WEIGHTS = "diffusion_pytorch_model.safetensors"


def tiny_vae(seed: int) -> torch.nn.Module:
    from vae_plugin import AutoencoderVAE

    torch.manual_seed(seed)
    return AutoencoderVAE(**CONFIG)


@dataclass(frozen=True)
class Published:
    """Models on a Hub, and the same in folders.

    Attributes:
        hub: has user/pipe, user/base, user/vae and user/sharded.
        folder: has pipe, base, main, dev and first; image.npy is what the pipeline made of `arguments` and seed 0.
        arguments: of a call of the pipelines.
        first: the commit of user/vae that is tagged v1.
    """

    hub: HubServer
    folder: Path
    arguments: dict[str, object]
    first: str


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Iterator[Published]:
    folder = tmp_path_factory.mktemp("published")
    tiny = build_dit(tiny_vae(0))
    tiny.pipe.save_pretrained(folder / "pipe")
    np.save(folder / "image.npy", tiny(seed=0))
    build_dit(AutoencoderKL(block_out_channels=(8,), norm_num_groups=4)).pipe.save_pretrained(folder / "base")
    for name, seed in {"first": 1, "dev": 2, "main": 3}.items():
        tiny_vae(seed).save_pretrained(folder / name)
    tiny_vae(4).half().save_pretrained(folder / "main", variant="fp16")
    tiny_vae(3).save_pretrained(folder / "sharded", max_shard_size="20KB")
    assert len(list((folder / "sharded").glob("*.safetensors"))) > 2

    tiny_vae(3).save_pretrained(folder / "wrapped")
    state = load_file(folder / "wrapped" / WEIGHTS)
    save_file({f"module.{name}": value for name, value in state.items()}, folder / "wrapped" / WEIGHTS)
    tiny_vae(3).save_pretrained(folder / "lacking")
    del state["encoder.conv_in.weight"]
    save_file(state, folder / "lacking" / WEIGHTS)

    with HubServer() as hub:
        hub.commit("user/pipe", folder / "pipe")
        hub.commit("user/wrapped", folder / "wrapped")
        hub.commit("user/lacking", folder / "lacking")
        hub.commit("user/base", folder / "base")
        hub.commit("user/sharded", folder / "sharded")
        first = hub.commit("user/vae", folder / "first")
        hub.repositories["user/vae"].tags["v1"] = first
        hub.commit("user/vae", folder / "dev", branch="dev")
        hub.commit("user/vae", folder / "main")
        yield Published(hub, folder, tiny.arguments, first)


# --- what diffusers does not promise --------------------------------------------------------------------------------

CHANGED = "diffusers changed how it finds the library of a pipeline's component: rework vae_plugin/__init__.py. "


def test_pin_the_table_of_libraries():
    assert hasattr(pipeline_loading_utils, "LOADABLE_CLASSES"), (
        CHANGED + "pipeline_loading_utils.LOADABLE_CLASSES is gone. It named the libraries whose components load from "
        "the Hub without trust_remote_code; find out what names them now, and enter vae_plugin there."
    )
    import vae_plugin

    table = pipeline_loading_utils.LOADABLE_CLASSES
    assert "vae_plugin" in table, (
        "`import vae_plugin` no longer enters the package in diffusers' LOADABLE_CLASSES: pipelines on the Hub that "
        "name it will not load."
    )
    assert set(table["vae_plugin"]) <= set(table["diffusers"]), (
        CHANGED + f"The base classes it knows are now {list(table['diffusers'])}; ours are {list(table['vae_plugin'])}."
    )
    for base, methods in table["vae_plugin"].items():
        assert methods == table["diffusers"][base], (
            CHANGED + f"{base} is now saved and loaded by {table['diffusers'][base]}; we say {methods}."
        )
        assert hasattr(vae_plugin, base), f"diffusers looks for {base} in the package's top level: import it there."


def test_pin_what_model_index_says_of_the_class():
    found = pipeline_loading_utils._fetch_class_library_tuple(tiny_vae(0))
    assert found == ("vae_plugin", "AutoencoderVAE"), (
        CHANGED + f"A saved pipeline's model_index.json would now name {found}. diffusers gave the first part of the "
        "class's module because that part is in LOADABLE_CLASSES. Pipelines that were published with "
        '["vae_plugin", "AutoencoderVAE"] must go on loading.'
    )


def test_pin_the_base_class_in_the_package():
    import vae_plugin

    assert getattr(vae_plugin, "ModelMixin", None) is ModelMixin, (
        "diffusers picks the method that loads a component by issubclass(cls, getattr(library, 'ModelMixin')), so "
        "vae_plugin.ModelMixin must be diffusers' own. Either vae_plugin/__init__.py no longer imports it, or "
        "diffusers moved it: import it from where the autoencoders of diffusers take theirs."
    )
    assert issubclass(vae_plugin.AutoencoderVAE, vae_plugin.ModelMixin)


# --- pipelines ------------------------------------------------------------------------------------------------------


def models_load_after_the_import_only(folder: str) -> None:
    import sys

    from diffusers import AutoModel, DiffusionPipeline

    sources = {"the Hub": "user/pipe", "a folder": folder}
    for place, source in sources.items():
        message = None
        try:
            DiffusionPipeline.from_pretrained(source)
        except ValueError as error:
            message = str(error)
        assert message is not None, f"diffusers now loads the pipeline from {place} without `import vae_plugin`"
        assert "vae_plugin" in message, f"from {place} the error does not name the package: {message}"
    models = [("user/vae", {}), ("user/pipe", {"subfolder": "vae"}), (folder, {"subfolder": "vae"})]
    for source, where in models:
        try:
            AutoModel.from_pretrained(source, **where)
        except (ValueError, OSError):
            continue
        raise AssertionError(f"diffusers now loads {source} without `import vae_plugin`")
    assert "vae_plugin" not in sys.modules, "diffusers now imports a package because a repository names it"

    import vae_plugin

    for source in sources.values():
        assert type(DiffusionPipeline.from_pretrained(source).vae) is vae_plugin.AutoencoderVAE
    for source, where in models:
        assert type(AutoModel.from_pretrained(source, **where)) is vae_plugin.AutoencoderVAE, source


@pytest.mark.slow
def test_pipelines_and_auto_models_load_after_the_import_only(published, fresh):
    fresh(models_load_after_the_import_only, published.hub, str(published.folder / "pipe"))


def pipelines_load(folder: str, arguments: dict[str, object]) -> None:
    import numpy as np
    import torch
    from diffusers import DiffusionPipeline, DiTPipeline
    from safetensors.torch import load_file

    import vae_plugin

    saved = load_file(f"{folder}/pipe/vae/diffusion_pytorch_model.safetensors")
    for source, local_files_only in (("user/pipe", False), ("user/pipe", True), (f"{folder}/pipe", False)):
        pipe = DiffusionPipeline.from_pretrained(source, local_files_only=local_files_only)
        assert type(pipe) is DiTPipeline
        assert type(pipe.vae) is vae_plugin.AutoencoderVAE
        weights = pipe.vae.state_dict()
        assert weights.keys() == saved.keys()
        assert all(torch.equal(weights[name], saved[name]) for name in saved), f"other weights from {source}"
        image = pipe(**arguments, output_type="np", generator=torch.Generator().manual_seed(0)).images
        np.testing.assert_allclose(image, np.load(f"{folder}/image.npy"), atol=1e-4)

    mine = vae_plugin.AutoencoderVAE.from_pretrained(f"{folder}/main")
    for source in ("user/pipe", "user/base"):  # whose own is an AutoencoderVAE, an AutoencoderKL
        pipe = DiffusionPipeline.from_pretrained(source, vae=mine)
        assert pipe.vae is mine
        assert pipe(**arguments, output_type="np").images.shape == (1, 16, 16, 3)


@pytest.mark.slow
def test_pipelines_load_from_the_hub_and_a_folder_or_take_a_vae(published, fresh):
    model_index = published.hub.repositories["user/pipe"].resolve().file("model_index.json")
    assert json.loads(model_index.content)["vae"] == ["vae_plugin", "AutoencoderVAE"]
    fresh(pipelines_load, published.hub, str(published.folder), published.arguments)


# --- autoencoders ---------------------------------------------------------------------------------------------------


def autoencoders_load(folder: str, cases: list[tuple[str, str, dict]], local_files_only: bool) -> None:
    import torch
    from safetensors.torch import load_file

    from vae_plugin import AutoencoderVAE

    for source, expected, arguments in cases:
        vae = AutoencoderVAE.from_pretrained(source, local_files_only=local_files_only, **arguments)
        weights, saved = vae.state_dict(), load_file(f"{folder}/{expected}")
        assert weights.keys() == saved.keys()
        assert all(torch.equal(weights[name], saved[name].float()) for name in saved), f"{source} {arguments}"
        assert vae.config.sample_size == 16, f"another configuration from {source} {arguments}"


@pytest.mark.slow
def test_autoencoders_load_from_the_hub_and_then_from_its_cache(published, fresh):
    hub, folder = published.hub, str(published.folder)
    cases = [
        ("user/vae", f"main/{WEIGHTS}", {}),
        ("user/vae", f"first/{WEIGHTS}", {"revision": "v1"}),
        ("user/vae", f"first/{WEIGHTS}", {"revision": published.first}),
        ("user/vae", f"dev/{WEIGHTS}", {"revision": "dev"}),
        ("user/vae", "main/diffusion_pytorch_model.fp16.safetensors", {"variant": "fp16"}),
        ("user/sharded", f"main/{WEIGHTS}", {}),
        ("user/pipe", f"pipe/vae/{WEIGHTS}", {"subfolder": "vae"}),
    ]
    fresh(autoencoders_load, hub, folder, cases, False)
    hub.requests.clear()
    fresh(autoencoders_load, hub, folder, cases, True)
    assert hub.requests == []


# --- what the commands open -----------------------------------------------------------------------------------------


def our_door_opens(folder: str) -> None:
    import contextlib
    import io

    import pytest
    import torch
    from safetensors.torch import load_file

    from vae_plugin.autoencoders import load_autoencoder
    from vae_plugin.errors import UserError

    weights = "diffusion_pytorch_model.safetensors"
    cases = [
        (
            "user/pipe",
            {},
            f"pipe/vae/{weights}",
            "user/pipe is a whole pipeline: its vae, an AutoencoderVAE, is opened.",
        ),
        ("user/base", {"revision": "main"}, f"base/vae/{weights}", "its vae, an AutoencoderKL"),
        ("user/base", {"subfolder": "vae"}, f"base/vae/{weights}", ""),
        ("user/vae", {"variant": "fp16"}, "main/diffusion_pytorch_model.fp16.safetensors", ""),
        ("user/sharded", {}, f"main/{weights}", ""),
        ("user/wrapped", {}, f"main/{weights}", "names of a wrapper"),
    ]
    for source, arguments, expected, said in cases:
        with contextlib.redirect_stderr(io.StringIO()) as stderr:
            found = load_autoencoder(source, **arguments).model.state_dict()
        saved = load_file(f"{folder}/{expected}")
        assert found.keys() == saved.keys()
        assert all(torch.equal(found[name], saved[name].float()) for name in saved), f"{source} {arguments}"
        assert said in stderr.getvalue(), stderr.getvalue()
    refused = [
        ("user/lacking", {}, "encoder.conv_in.weight missing"),
        ("user/vae", {"variant": "fp8"}, "no model with the variant 'fp8'"),
        ("user/none", {}, "no such folder, and on the Hub"),
    ]
    for source, arguments, words in refused:
        with pytest.raises(UserError, match=words) as error:
            load_autoencoder(source, **arguments)
        assert "\n" not in str(error.value)


@pytest.mark.slow
def test_our_door_opens_pipelines_variants_shards_and_wrapped_models_of_the_hub(published, fresh):
    fresh(our_door_opens, published.hub, str(published.folder))
