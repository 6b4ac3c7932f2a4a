"""Weights that fit the model that they are loaded into: none missing or left over, every shape right, all finite."""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from accelerate.utils import is_compiled_module
from accelerate.utils.modeling import get_state_dict_offloaded_model
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import UserError
from ..notices import say
from ..texts import read_json_object

WEIGHTS_NAME = "diffusion_pytorch_model"
WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|module|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
NOT_SAVED = "they are not saved, go back to an earlier checkpoint"
LOCATION = ("revision", "cache_dir")  # of a repository's files
NUMBER = re.compile(r"B?F\d")  # F32, BF16, F8_E4M3, ...
ONLY_TRAINING_COUNTS = ".num_batches_tracked"  # torch does without them, too
ELSEWHERE = (*LOCATION, "token", "local_files_only", "force_download", "subfolder", "variant")
LONGEST_REASON = 400  # characters
PLACEMENT = ("device_map", "max_memory", "offload_folder", "offload_state_dict")

Open = Callable[..., tuple[Any, Mapping[str, Any]]]


class WeightsError(UserError):
    """Weights that do not belong to the model that they were to be loaded into, or that are not numbers."""


def load_fitting(
    from_pretrained: Open, source: str | os.PathLike, *, named: str | None = None, **settings: Any
) -> tuple[Any, Mapping[str, Any]]:
    """Load a model through diffusers' `from_pretrained`, which would leave tensors that do not fit uninitialised.

    The prefix of a wrapper (`torch.compile`, `DistributedDataParallel`, ...) that the names share is taken off, and
    said. Old names that diffusers itself converts, and those that the class ignores, are no misfits.

    Args:
        from_pretrained: that of a model class, bound to it.
        source: folder or Hub id.
        named: how an error names it, if otherwise.
        settings: further arguments.

    Returns:
        The model and diffusers' loading information.

    Raises:
        WeightsError: naming two of the tensors that do not fit, and the cure.
        OSError: if there are no such weights.
    """
    settings["low_cpu_mem_usage"] = True  # what the file lacks is then on `meta`, never uninitialised memory
    name = str(named or source)
    failed = None
    try:
        model, info = _loaded(from_pretrained, source, settings, name)
    except WeightsError as error:
        if settings.get("device_map") is None:
            raise
        failed = error  # accelerate cannot place a tensor that is missing, and does not say which
        placed = {key: value for key, value in settings.items() if key not in PLACEMENT}
        model, info = _loaded(from_pretrained, source, placed, name)
    renamed = unwrapped(info.get("unexpected_keys", ()), info.get("missing_keys", ()), len(model.state_dict()))
    if renamed:
        with _renamed_copy(source, settings, renamed) as folder:
            elsewhere = {key: value for key, value in settings.items() if key not in ELSEWHERE}
            model, info = _loaded(from_pretrained, folder, {**elsewhere, "disable_mmap": True}, name)
        failed = None
    _check_names(model, info, name)
    if failed is not None:
        raise failed
    _check_types(model, source, settings, renamed, name)
    narrow = settings.get("dtype") or settings.get("torch_dtype")
    cure = "take those of an earlier checkpoint" + (", or load them in float32" if narrow is not None else "")
    check_finite(_state(model), f"the weights of {name}", cure)
    if renamed or named:
        model.register_to_config(_name_or_path=name)
    if renamed:
        old, new = min(renamed.items())
        say(f"the weights of {name} have the names of a wrapper: {old} was read as {new}, and so on.")
    return model, info


def unwrapped(unexpected: Collection[str], missing: Collection[str], in_all: int) -> dict[str, str]:
    """New names for unexpected ones that only a wrapper keeps from fitting; empty if it is anything else.

    Args:
        unexpected: names in the file that the model does not have.
        missing: names of the model that the file does not have.
        in_all: how many names the model has.
    """
    wanted = set(missing)
    renamed = {name: WRAPPERS.sub("", name) for name in unexpected}
    if wanted.isdisjoint(renamed.values()) and len(wanted) == in_all:  # any other prefix, if all names share it
        longest = max(wanted, key=len, default="")
        prefixes = {name[: -len(longest)] for name in renamed.values() if longest and name.endswith("." + longest)}
        prefix = prefixes.pop() if len(prefixes) == 1 else ""
        if not all(name.startswith(prefix) for name in renamed.values()):
            return {}
        renamed = {old: new[len(prefix) :] for old, new in renamed.items()}
    fits = not wanted.isdisjoint(renamed.values()) and len(set(renamed.values())) == len(renamed)
    return renamed if fits else {}


def check_finite(state: Mapping[str, torch.Tensor], what: str, cure: str) -> None:
    """Refuse weights with NaN or infinity.

    Args:
        state: tensors by name.
        what: whose weights they are, for the error.
        cure: what to do, for the error.

    Raises:
        WeightsError: naming two of them.
    """
    wrong = [name for name, value in state.items() if not _is_finite(value)]
    if wrong:
        raise WeightsError(f"{what} hold NaN or infinity ({few(wrong)}): {cure}.")


@contextmanager
def plain_names(model: torch.nn.Module) -> Iterator[None]:
    """No wrapper in the names of the weights for the time of the block, where parts of a model are compiled."""
    wrapped: list[tuple[torch.nn.Module, str, Any]] = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if is_compiled_module(child)
    ]
    try:
        for parent, name, child in wrapped:
            parent._modules[name] = child._orig_mod
        yield
    finally:
        for parent, name, child in wrapped:
            parent._modules[name] = child


def plain_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of a model by the names that they have without wrappers, see `plain_names`."""
    with plain_names(model):
        return dict(model.state_dict())


def few(names: Collection[str]) -> str:
    """Two of the names, and how many there are."""
    first = ", ".join(sorted(names)[:2])
    return first if len(names) <= 2 else f"{first} and {len(names) - 2:,} more"


def header(file: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type (as safetensors names it, such as F32) and shape of each tensor in a safetensors file."""
    with safe_open(file, "pt") as opened:
        slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
        return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}


def reason(error: BaseException) -> str:
    """The first line of an error, or what it means where that says nothing."""
    if isinstance(error, IndexError):
        return "lists of its configuration differ in length"
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    text = str(error).strip() or type(error).__name__
    line = text.splitlines()[0].strip().rstrip(".")
    return line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]}…"


def _is_finite(value: torch.Tensor) -> bool:
    if type(value) not in (torch.Tensor, torch.nn.Parameter) or not value.is_floating_point():
        return True  # tensors of quantisers have no such question
    if value.is_meta:  # offloaded
        return True
    return bool((value.float() if value.element_size() == 1 else value).isfinite().all())


def _loaded(
    from_pretrained: Open, place: str | os.PathLike, settings: Mapping[str, Any], name: str
) -> tuple[Any, Mapping[str, Any]]:
    """The model in a folder or on the Hub, which an error calls `name`."""
    try:
        with _without_warnings():
            return from_pretrained(place, output_loading_info=True, **settings)
    except (UserError, ImportError):
        raise
    except Exception as error:  # what damaged files and unfit configurations lead to has no common class
        fault = _fault(from_pretrained, place, settings)
        if fault is not None:
            raise WeightsError(f"the weights of {name} cannot be loaded: {fault}") from error
        if isinstance(error, OSError):
            raise
        raise WeightsError(f"the weights of {name} cannot be loaded: {reason(error)}.") from error


def _fault(from_pretrained: Any, place: str | os.PathLike, settings: Mapping[str, Any]) -> str | None:
    """What is wrong with the files of a model that could not be loaded, and the cure; None if it is not the files."""
    try:
        folder, variant = _folder(place, settings), settings.get("variant")
    except (OSError, ValueError):
        return None  # there are no files
    try:
        quantised = read_json_object(folder / "config.json").get("quantization_config")
        if quantised is not None and not isinstance(quantised, dict):
            return "quantization_config is no object in its config.json. Correct it, or remove it."
    except (UserError, OSError) as error:
        return f"{reason(error)}."
    index = folder / ".".join(filter(None, (WEIGHTS_NAME, "safetensors.index", variant, "json")))
    if index.is_file():
        try:
            shards = sorted(set(read_json_object(index)["weight_map"].values()))
            gone = [name for name in shards if not (folder / name).is_file()]
        except (UserError, KeyError, AttributeError, TypeError):
            return f"{index.name} is no index of their shards. Save the model again by save_pretrained."
        if gone:
            return f"{index.name} names {few(gone)}, not there. Copy or download the folder again."
    shapes = {}
    for file in filter(Path.is_file, _files(folder, variant)):
        try:
            shapes.update({name: shape for name, (_, shape) in header(file).items()})
        except (SafetensorError, OSError) as error:
            return f"{file.name} is damaged ({reason(error)}). Copy or download it again."
    cls = from_pretrained.__self__
    try:
        with init_empty_weights(), _without_warnings():
            expected = cls.from_config(cls.load_config(folder)).state_dict()
    except Exception:  # the error says it
        return None
    wrong = [
        f"{name} has {_shape(shapes[name])}, expected {_shape(value.shape)}"
        for name, value in expected.items()
        if name in shapes and shapes[name] != tuple(value.shape)
    ]
    return f"{few(wrong)}. Give the config.json that they were saved with." if wrong else None


def _check_names(model: Any, info: Mapping[str, Any], named: str) -> None:
    missing = {name for name in info.get("missing_keys", ()) if not name.endswith(ONLY_TRAINING_COUNTS)}
    missing |= {name for name, value in _state(model).items() if value.is_meta}  # an index promised it, no file has it
    unexpected = info.get("unexpected_keys", ())
    said = [f"{few(missing)} missing"] if missing else []
    said += [f"{few(unexpected)} unknown to it"] if unexpected else []
    said += [f"{few([str(wrong[0]) for wrong in info['mismatched_keys']])} of another shape"] * bool(
        info.get("mismatched_keys")
    )
    if said:
        raise WeightsError(
            f"the weights of {named} do not fit {type(model).__name__}: {'; '.join(said)}. Save the model again by "
            "save_pretrained, or give the config.json that these weights were saved with."
        )


def _check_types(
    model: Any, source: str | os.PathLike, settings: Mapping[str, Any], renamed: Mapping[str, str], named: str
) -> None:
    """Refuse whole numbers where the model has weights: those of a quantiser, of which diffusers knows nothing."""
    try:
        files = _files(_folder(source, settings), settings.get("variant"))
    except (OSError, ValueError):
        return  # not in the cache
    if getattr(model, "hf_quantizer", None) is not None:
        return
    floats = {name for name, value in _state(model).items() if value.is_floating_point()}
    stored = {
        renamed.get(name, name): kind for file in files if file.is_file() for name, (kind, _) in header(file).items()
    }
    wrong = [f"{name} ({stored[name]})" for name in sorted(floats & stored.keys()) if not NUMBER.match(stored[name])]
    if wrong:
        raise WeightsError(
            f"the weights of {named} are no floating-point numbers: {few(wrong)}. Give those from before the "
            "quantisation."
        )


def _state(model: Any) -> Mapping[str, torch.Tensor]:
    """The tensors of a model, also of one whose hooks keep them elsewhere."""
    state = model.state_dict()
    offloaded = getattr(model, "hf_device_map", None) and any(value.is_meta for value in state.values())
    return get_state_dict_offloaded_model(model) if offloaded else state


def _shape(shape: Collection[int]) -> str:
    return " x ".join(map(str, shape)) or "no dimension"


@contextmanager
def _renamed_copy(source: str | os.PathLike, settings: Mapping[str, Any], renamed: Mapping[str, str]) -> Iterator[str]:
    """A temporary folder of the model under new names."""
    folder = _folder(source, settings)
    with tempfile.TemporaryDirectory(prefix="vae-plugin-names-") as copy:
        state = {}
        for file in _files(folder, settings.get("variant")):
            with safe_open(file, "pt") as opened:
                state.update({renamed.get(name, name): opened.get_tensor(name) for name in opened.keys()})  # noqa: SIM118
        save_file(state, Path(copy) / f"{WEIGHTS_NAME}.safetensors", {"format": "pt"})
        shutil.copyfile(folder / "config.json", Path(copy) / "config.json")
        yield copy


def _folder(source: str | os.PathLike, settings: Mapping[str, Any]) -> Path:
    """Where the files of a model are, those of a repository from the client's cache."""
    subfolder = settings.get("subfolder") or ""
    if os.path.isdir(source):
        return Path(source) / subfolder
    files = [f"{subfolder}/{name}".lstrip("/") for name in ("config.json", f"{WEIGHTS_NAME}*")]
    where = {name: settings[name] for name in LOCATION if settings.get(name) is not None}
    return Path(snapshot_download(str(source), allow_patterns=files, local_files_only=True, **where)) / subfolder


def _files(folder: Path, variant: str | None) -> list[Path]:
    """The safetensors files of a model: the one, or its shards."""
    name = f"{WEIGHTS_NAME}.{variant}" if variant else WEIGHTS_NAME
    return sorted(folder.glob(f"{name}-*-of-*.safetensors")) or [folder / f"{name}.safetensors"]


@contextmanager
def _without_warnings() -> Iterator[None]:
    """diffusers warns of what is an error here."""
    logger = logging.getLogger("diffusers.models.modeling_utils")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
