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

from support.tiny_diffusers import tiny
from vae_plugin import AutoencoderVAE, AutoencoderVQVAE, finetune
from vae_plugin.errors import UserError
from vae_plugin.options import build, options_of
from vae_plugin.training import run_record
from vae_plugin.training.accelerator import make_accelerator
from vae_plugin.training.hooks import publish
from vae_plugin.training.run import build_run
from vae_plugin.training.settings import FinetuneOptions

OPTIONS = options_of(FinetuneOptions)
RUN = {"train_batch_size": 4, "max_train_steps": 3, "lr_warmup_steps": 1, "num_validation_images": 2, "resolution": 8}
CIRCLES = {**RUN, "circles_length": 12}
WIDTHS = {"block_out_channels": (4, 4)}
NEW = {**CIRCLES, **WIDTHS}
OURS = {**NEW, "norm_num_groups": 2}
VQVAE = {**OURS, "model_type": "vqvae", "codebook_size": 8}
FSQ = {**OURS, "model_type": "vqvae", "quantizer": "fsq"}
GAN = {"resolution": 16, "disc_layers": 1, "disc_start": 0, "disc_channels": 4, "disc_regularization": "r1"}

MODEL, LOSS = ("model", "loss", "objective"), ("loss", "objective")
EVERYTHING = ("model", "codebook", "loss", "objective", "data", "optimization", "hub", "output")


def existing(name, **changes):
    return {**CIRCLES, "pretrained_model_name_or_path": f"<{name}>", **changes}


# The run, and the groups of options that change it. What stands in <> is the path of a fixture.
SCENARIOS = {
    "new vae": (OURS, EVERYTHING),
    "new vae with a target of the KL": ({**OURS, "capacity": 5.0, "capacity_steps": 3}, ("objective",)),
    "new deterministic vae": ({**OURS, "beta": 0.0}, ("objective",)),
    "new mlp": ({**CIRCLES, "network": "mlp", "hidden_sizes": (8,)}, ("model", "codebook", *LOSS, "optimization")),
    "new vae of mixtures": ({**OURS, "likelihood": "logistic_mixture", "num_mixtures": 2}, ("model",)),
    "new vae, l1": ({**OURS, "reconstruction_loss": "l1"}, MODEL),
    "new vae, l1, discriminator": ({**OURS, "reconstruction_loss": "l1", **GAN}, ("loss",)),
    "new vae, l2, own discriminator": (
        {**OURS, "reconstruction_loss": "l2", "disc_start": 0, "discriminator": f"{__name__}:discriminator"},
        ("loss",),
    ),
    "new ema": (VQVAE, ("codebook", *MODEL)),
    "new vq": ({**VQVAE, "quantizer": "vq"}, ("codebook",)),
    "new fsq": (FSQ, ("codebook",)),
    "new fsq with levels": ({**FSQ, "fsq_levels": (4, 4)}, ("codebook",)),
    "new lfq": ({**VQVAE, "quantizer": "lfq"}, ("codebook",)),
    "new rvq": ({**VQVAE, "quantizer": "rvq"}, ("codebook",)),
    "new simvq": ({**VQVAE, "quantizer": "simvq"}, ("codebook",)),
    "new vae, several losses": (
        {**OURS, "reconstruction_loss": ("l1=0.3", "l2=0.5"), "perceptual_loss": (f"{__name__}:network=0.5",)},
        ("loss",),
    ),
    "new vqvae, l2": ({**VQVAE, "reconstruction_loss": "l2"}, ("codebook", *LOSS)),
    "new tiny": ({**NEW, "model_type": "tiny"}, ("codebook", *MODEL)),
    "new tiny, teacher": ({**NEW, "model_type": "tiny", "teacher": "<AutoencoderKL>"}, MODEL),
    "tiny, teacher, encoder": (existing("AutoencoderTiny", teacher="<AutoencoderKL>", train="encoder"), LOSS),
    "tiny, teacher, decoder": (existing("AutoencoderTiny", teacher="<AutoencoderKL>", train="decoder"), LOSS),
    "new decoder": ({**CIRCLES, "teacher": "<AutoencoderKL>", "decoder_block_out_channels": (4, 8)}, MODEL),
    "new from a config": ({**CIRCLES, "model_config": "<AutoencoderKL>"}, ("codebook", "model")),
    "our vae": (existing("AutoencoderVAE"), ("codebook", *MODEL)),
    "our vae, decoder": (existing("AutoencoderVAE", train="decoder"), LOSS),
    "our vae, encoder": (existing("AutoencoderVAE", train="encoder"), LOSS),
    "our vae, encoder, l2": (existing("AutoencoderVAE", train="encoder", reconstruction_loss="l2"), LOSS),
    "our vqvae": (existing("AutoencoderVQVAE"), ("codebook", *MODEL)),
    "AutoencoderKL": (existing("AutoencoderKL"), EVERYTHING),
    "AutoencoderKL, decoder": (existing("AutoencoderKL", train="decoder"), LOSS),
    "AutoencoderKL, LoRA, perceptual": (
        existing("AutoencoderKL", lora_rank=1, perceptual_loss=f"{__name__}:network"),
        ("model", "loss"),
    ),
    "AutoencoderTiny": (existing("AutoencoderTiny"), ("codebook", *MODEL)),
    "VQModel": (existing("VQModel"), ("codebook", *MODEL)),
    "images, epochs": (
        {
            **{name: value for name, value in RUN.items() if name not in ("max_train_steps", "lr_warmup_steps")},
            **WIDTHS,
            "norm_num_groups": 2,
            "train_data_dir": "<photographs>",
            "num_train_epochs": 1,
            "lr_scheduler": "constant",
        },
        ("data", "optimization"),
    ),
    "images of four channels": (
        {**RUN, **WIDTHS, "model_type": "tiny", "in_channels": 4, "train_data_dir": "<photographs>"},
        ("loss",),
    ),
    "stream": (
        {
            **RUN,
            **WIDTHS,
            "norm_num_groups": 2,
            "train_data_dir": "<shards>",
            "streaming": True,
        },
        ("data",),
    ),
    "circles by name": ({**RUN, **WIDTHS, "norm_num_groups": 2, "dataset_name": "circles"}, ("data",)),
    "pushed, averaged": ({**OURS, "push_to_hub": True, "use_ema": True}, ("hub", "output", "optimization")),
}

SLOW = {  # what another scenario shows too, but for a rule or two
    "new vqvae, l2", "new vq", "new lfq", "new rvq", "new simvq", "new from a config", "tiny, teacher, encoder",
    "tiny, teacher, decoder", "our vae", "our vae, encoder", "our vae, encoder, l2", "our vqvae", "AutoencoderTiny",
    "AutoencoderKL, LoRA, perceptual", "VQModel", "pushed, averaged", "new decoder", "new vae, l1",
    "new vae of mixtures", "images, epochs", "new tiny, teacher", "new vae, l2, own discriminator",
    "AutoencoderKL",
}  # fmt: skip

# Values that differ from those of the scenarios, and act within three steps.
OTHER = {
    "padding_mode": "reflect",
    "pretrained_model_name_or_path": "<other>",
    "subfolder": "vae",
    "revision": "main",
    "variant": "fp16",
    "model_config": "<other>",
    "train": "decoder",
    "teacher": "<other>",
    "teacher_subfolder": "vae",
    "model_type": "vqvae",
    "block_out_channels": (12, 12),
    "decoder_block_out_channels": (8, 4),
    "norm_num_groups": 4,
    "hidden_sizes": (4,),
    "sigma": "0.5",
    "codebook_size": 256,
    "codebook_dim": 3,
    "dead_code_threshold": 0.99,
    "ema_decay": 0.2,
    "num_quantizers": 2,
    "fsq_levels": (3, 3),
    "dataset_name": "nobody/nothing",
    "train_data_dir": "<more photographs>",
    "dataset_config_name": "nothing",
    "dataset_split": "nothing",
    "validation_data_dir": "<more photographs>",
    "validation_split": "nothing",
    "dataloader_num_workers": 2,
    "image_column": "nothing",
    "shuffle_buffer": 2,
    "max_train_samples": 8,
    "min_image_size": 11,
    "value_range": (-255.0, 300.0),
    "max_image_pixels": 119,  # one less than the photographs have
    "num_validation_images": 1,
    "best_metric": "ssim",
    "resolution": 16,
    "reconstruction_loss": ("l2",),
    "perceptual_loss": f"{__name__}:other_network",
    "kl_scale": 1.0,
    "latent_anchor": 1.0,
    "disc_start": 2,
    "disc_warmup_steps": 2,
    "discriminator": f"{__name__}:other_discriminator",
    "disc_learning_rate": 0.0,
    "free_bits": 100.0,
    "capacity": 50.0,
    "capacity_steps": 2,
    "kl_warmup_steps": 3,
    "max_train_steps": 2,
    "lr_scheduler": "constant_with_warmup",
    "mixed_precision": "bf16",
    "max_grad_norm": 1e-3,
    "optimizer": "sgd",
    "optimizer_args": ("amsgrad=true",),
    "adam_epsilon": 1e-2,
    "adam_weight_decay": 0.5,
    "adam_beta1": 0.1,
    "adam_beta2": 0.1,
    "hub_model_id": "someone/something",
    "hub_revision": "draft",
    "license": "mit",
    "output_dir": "<elsewhere>",
    "resume_from_checkpoint": "step-000001",
    "report_to": "tensorboard",
    "tracker_project_name": "cats",
    "latent_scaling": "keep",
}
AT_THE_END = {"pipeline_family", "latent_scaling", "export_remote_code", "license"}  # what only the result shows
# What is refused by the part that it concerns, in words of its own.
OWN_WORDS = {
    "gradient_checkpointing": "gradient checkpointing",
    "dataset_name": "nobody/nothing",
    "dataset_split": "has no split 'nothing'",
    "validation_split": "has no split 'nothing'",
    "image_column": "image_column",
    "max_image_pixels": "limit is 119 pixels",
    "revision": "revision 'main' has no effect on the local folder",
    "variant": "with the variant 'fp16'",
    "disc_start": "too small for a discriminator",
    "pipeline_family": "pipeline_family is",
    "model_type": "norm_num_groups",  # whose default is no divisor of such few channels
}
SHOWN_ELSEWHERE = {  # by tests of continued runs, of loading, of schedules, of trackers, and of the best evaluation
    "allow_changed_data", "dataset_config_name", "lr_num_cycles", "lr_power", "lr_end", "tracker_project_name",
    "best_metric", "load_best_model_at_end",
}  # fmt: skip
DRIVERS = {"pretrained_model_name_or_path", "model_config"} | {
    condition for option in OPTIONS.values() for condition in option.declaration.when
}


class Distance(torch.nn.Module):
    def __init__(self, power):
        super().__init__()
        self.power = power

    def forward(self, x, y):
        return (x - y).abs().pow(self.power).flatten(1).mean(1)


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


def network():
    """For `--perceptual_loss`."""
    return Distance(1)


def discriminator():
    """For `--discriminator`."""
    torch.manual_seed(5)
    return torch.nn.Conv2d(1, 1, 3, stride=2)


def other_discriminator():
    """For `--discriminator`."""
    torch.manual_seed(6)
    return torch.nn.Conv2d(1, 1, 5, stride=2)


def other_network():
    """For `--perceptual_loss`."""
    return Distance(3)


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
