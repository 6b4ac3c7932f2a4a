"""Every option of a run, with every kind of model and loss: it has an effect, or it is refused with one sentence."""

import inspect
import io
import tarfile
from pathlib import Path

import datasets
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image

from support.option_scenarios import (
    AT_THE_END,
    DRIVERS,
    OPTIONS,
    OTHER,
    OWN_WORDS,
    SCENARIOS,
    SHOWN_ELSEWHERE,
    SLOW,
)
from support.tiny_diffusers import tiny
from vae_plugin import AutoencoderVAE, AutoencoderVQVAE, finetune
from vae_plugin.errors import UserError
from vae_plugin.options import build
from vae_plugin.training import run_record
from vae_plugin.training.accelerator import make_accelerator
from vae_plugin.training.hooks import publish
from vae_plugin.training.run import build_run
from vae_plugin.training.settings import FinetuneOptions


@pytest.mark.parametrize(
    ("output", "inside"), [("data/out", True), ("link/a/out", True), ("data", True), ("out", False)]
)
def test_an_output_folder_within_the_data_is_refused(tmp_path, output, inside):
    (tmp_path / "data" / "a").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "data")
    folder, output = str(tmp_path / "data"), str(tmp_path / output)
    for data in ({"train_data_dir": (str(tmp_path / "other"), folder)}, {"dataset_name": folder}):
        given = {**data, "output_dir": output, "resume_from_checkpoint": "latest"}
        if inside:
            with pytest.raises(UserError, match=r"lies in the data in .*: give a folder elsewhere"):
                build(FinetuneOptions, given)
        else:
            build(FinetuneOptions, given)
    (Path(output) / "checkpoints").mkdir(parents=True)  # of release 0.1, which did not refuse it
    build(FinetuneOptions, given)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder of the models and images that scenarios name."""
    folder = tmp_path_factory.mktemp("place")
    for name in ("AutoencoderKL", "AutoencoderTiny", "VQModel"):
        tiny(name).save_pretrained(folder / name)
        tiny(name, seed=1).save_pretrained(folder / name / "vae")
    tiny("AutoencoderKL", latent_channels=3).save_pretrained(folder / "other")
    ours = {"block_out_channels": (4, 4), "norm_num_groups": 2, "layers_per_block": 1, "sample_size": 8}
    for subfolder in (".", "vae"):
        AutoencoderVAE(in_channels=1, **ours).save_pretrained(folder / "AutoencoderVAE" / subfolder)
        AutoencoderVQVAE(in_channels=1, num_vq_embeddings=8, **ours).save_pretrained(
            folder / "AutoencoderVQVAE" / subfolder
        )
    for name in ("photographs", "more photographs", "shards"):
        (folder / name).mkdir()
    generator = torch.Generator().manual_seed(0)
    with tarfile.open(folder / "shards" / "data-00000.tar", "w") as archive:
        for i in range(24):
            pixels = (torch.rand(10, 12, 3, generator=generator) * 255).byte().numpy()
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            info = tarfile.TarInfo(f"{i}.png")
            info.size = len(file.getvalue())
            archive.addfile(info, io.BytesIO(file.getvalue()))
            for name, image in (("photographs", pixels), ("more photographs", 255 - pixels)):
                Image.fromarray(image).save(folder / name / f"{i:02d}.png")
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Nothing is asked of git, and nothing is sent."""
    monkeypatch.setattr(run_record, "library_versions", dict)
    monkeypatch.setattr(run_record, "_commit_of_plugin", lambda: None)

    def without_hub(name, *arguments, **more):
        assert name == OTHER["dataset_name"]
        raise OSError("there is no network.")

    monkeypatch.setattr(datasets, "load_dataset_builder", without_hub)

    class Place:
        address = repo_id = "user/name"
        state = create = check_card = lambda self, *_: None

        def card(self, *_):
            return b""

        def tags(self):
            return prepared.append("tags") or {}

    prepared = []
    monkeypatch.setattr(publish, "hub_api", lambda: None)
    monkeypatch.setattr(publish, "find_destination", lambda api, name, **more: prepared.append((name, more)) or Place())
    monkeypatch.setattr(publish, "prepared", prepared, raising=False)


def values_of(scenario, place, tmp_path):
    base, _ = SCENARIOS[scenario]
    return {name: located(value, place) for name, value in {"output_dir": str(tmp_path / "out"), **base}.items()}


def located(value, place):
    if isinstance(value, str) and value.startswith("<"):
        return str(place / value[1:-1])
    return value


def other_value(name, current, place):
    """A value that is not the current one."""
    option = OPTIONS[name]
    if name == "in_channels":
        return 1 if current == 3 else 3
    if name in OTHER and OTHER[name] != current:
        return located(OTHER[name], place)
    if option.declaration.choices is not None:
        return next(choice for choice in option.declaration.choices if choice != current)
    if option.scalar is bool:
        return not current
    assert option.scalar in (int, float), f"{name} needs a value in OTHER"
    return 2 if current is None else current + 1 if option.scalar is int else current / 2 or 0.5


def made(values):
    """A run that is ready, and what can be told of its parts without a step; no settings are looked at."""
    AcceleratorState._reset_state(reset_partial_state=True)
    publish.prepared.clear()
    asked = build(FinetuneOptions, values)
    run = build_run(asked, make_accelerator(asked))
    modules = dict(run.loss.model.named_modules())
    train = run.data.train
    if hasattr(train, "batches"):  # a stream; its threads start when it is read
        run.data.train.batches = lambda size, **more: more["num_threads"]
        loading = run.data._epoch(run.state)
        del run.data.train.batches
    else:
        loading = run.data._epoch(run.state).num_workers
    parts = {
        "compiled": [name for name, module in modules.items() if module._compiled_call_impl is not None],
        "recomputed": [name for name, module in modules.items() if recomputes(module)],
        "layout": [parameter.stride() for parameter in run.loss.model.parameters()],
        "loading": loading,
        "held out": len(run.data.validation),
        "unreadable": run.data.intake.limit,
        "average": None if run.average.ema is None else run.average.ema.decay,
        "reader": getattr(getattr(train, "dataset", train), "reader", None),
        "memory": getattr(getattr(getattr(train, "dataset", train), "kept", None), "limit", None),
        "precision": run.accelerator.mixed_precision,
        "trackers": [str(tracker) for tracker in run.accelerator.log_with],
        "intervals": [hook.every for hook in run.hooks],
        "kept": run.checkpoints.total_limit,
        "output": str(run.checkpoints.output_dir),
        "repository": list(publish.prepared),
        "background": run.publisher is not None and run.publisher.background is not None,
    }
    return run, parts


def recomputes(module):
    """By diffusers, or by ours where it has none."""
    return getattr(module, "gradient_checkpointing", False) or not inspect.ismethod(module.forward)


def trained(run, monkeypatch):
    """The weights after the steps of the run. A curve that is another, with the same weights, is no effect."""
    run.hooks.clear()
    with monkeypatch.context() as patch:
        patch.setattr(finetune, "make_accelerator", lambda *_: run.accelerator)
        patch.setattr(finetune, "build_run", lambda *_: run)
        patch.setattr(finetune, "measure_base", lambda run: None)
        patch.setattr(finetune, "finish", lambda run: None)
        finetune.train(run.options)
    run.log.close()
    return run.loss.model.state_dict()


def result(values):
    """The folder of a whole run: names of its files, config and card."""
    AcceleratorState._reset_state(reset_partial_state=True)
    options = build(FinetuneOptions, values)
    finetune.train(options)
    folder = run_record.Path(options.output.output_dir)
    kept = ("config.json", "README.md")
    content = {path.name: path.read_text() if path.name in kept else None for path in folder.iterdir()}
    # The command in the card repeats the option, whether or not it had an effect.
    content["README.md"] = content["README.md"].split("\n---\n")[0]
    return content


def alike(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def refusal(values, adapter, source):
    """What the rules say of the values, a sentence, or None."""
    try:
        build(FinetuneOptions, values).check_model(adapter, source)
    except UserError as error:
        return str(error)
    return None


def config_value(adapter, field):
    value = adapter.config.get(field)
    return tuple(value) if isinstance(value, list) else value


@pytest.mark.parametrize("scenario", [pytest.param(s, marks=[pytest.mark.slow] * (s in SLOW)) for s in SCENARIOS])
def test_every_option_has_an_effect_or_is_refused(scenario, place, tmp_path, monkeypatch, capsys):
    base = values_of(scenario, place, tmp_path)
    run, parts = made(base)
    adapter, options = run.loss.adapter, run.options
    now = {name: option.get(options) for name, option in OPTIONS.items()}
    now |= {"in_channels": adapter.in_channels, "model_type": adapter.kind}
    source = options.model.source
    outcome = trained(run, monkeypatch)
    again, parts_again = made(base)
    assert parts_again == parts
    assert alike(trained(again, monkeypatch), outcome), "a run that changes by itself shows no effects"
    silent, unclear, judged = [], [], []
    for name, option in OPTIONS.items():
        if option.path[0] not in SCENARIOS[scenario][1]:
            continue
        if name in AT_THE_END and "push_to_hub" in base:
            continue
        values = {**base, name: other_value(name, now[name], place)}
        field = option.declaration.of_new_model
        if source is not None and field is not None and config_value(adapter, field) == values[name]:
            continue  # just what the model has
        # A model that is there may agree with one of two values, and free bits of 0 with a target of the KL.
        may_differ = name in {*DRIVERS, "model_type", "free_bits"} or (source is not None and field is not None)
        if name not in base and option.default is not None and not may_differ:
            default_refused = refusal({**base, name: option.default}, adapter, source) is not None
            if default_refused != (refusal(values, adapter, source) is not None):
                judged.append(f"--{name}: its default is judged otherwise than {values[name]!r}")
        try:
            if name in AT_THE_END:
                folders = [{**v, "output_dir": str(tmp_path / f"{name}-{i}")} for i, v in enumerate((base, values))]
                if result(folders[0]) == result(folders[1]):
                    silent.append(f"--{name} {values[name]}")
                continue
            changed, changed_parts = made(values)
            if changed_parts == parts and alike(trained(changed, monkeypatch), outcome):
                silent.append(f"--{name} {values[name]}")
        except UserError as error:
            message = str(error)
            named = [name, *(base if name in DRIVERS else ())]
            words = [f"--{option}" for option in named] + ([OWN_WORDS[name]] if name in OWN_WORDS else [])
            if not any(word in message for word in words) or "\n" in message or message[-1] not in ".?":
                unclear.append(f"--{name} {values[name]}: {message}")
    assert not silent, "passed over in silence: " + ", ".join(silent)
    assert not unclear, "refused, but not by name:\n" + "\n".join(unclear)
    assert not judged, "\n".join(judged)


def test_every_option_is_accepted_somewhere(place, tmp_path):
    """Or the test above would be content with a rule that refuses always."""
    never = set(OPTIONS)
    for scenario, (_, groups) in SCENARIOS.items():
        base = values_of(scenario, place, tmp_path)
        now = {name: option.get(build(FinetuneOptions, base)) for name, option in OPTIONS.items()}
        for name in [name for name in never if OPTIONS[name].path[0] in groups]:
            try:
                build(FinetuneOptions, {**base, name: other_value(name, now[name], place)})
                never.discard(name)
            except UserError:
                continue
    assert never == SHOWN_ELSEWHERE
