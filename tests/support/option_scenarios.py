"""Runs in which every option has an effect, or is refused: small models, and values that differ from theirs."""

import torch

from vae_plugin.options import options_of
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
