"""What DeepSpeed and FSDP can do here, and one sentence for what they cannot."""

from __future__ import annotations

from accelerate import Accelerator
from accelerate.utils import DistributedType

from ..errors import UserError
from .settings import OptimizationSettings


def prepare_sharding(accelerator: Accelerator, settings: OptimizationSettings, has_discriminator: bool) -> None:
    """Configure DeepSpeed, and refuse what would train something else than the options say.

    Raises:
        UserError: for sharded weights, or a combination that DeepSpeed does not have.
    """
    if accelerator.distributed_type == DistributedType.FSDP:
        raise UserError(
            "FSDP shards the weights, and averages, evaluation and codebooks need all of them; an autoencoder fits "
            "on each "
            "GPU: launch with --multi_gpu, or with zero_stage 1 or 2 of DeepSpeed."
        )
    if accelerator.distributed_type != DistributedType.DEEPSPEED:
        return
    config = accelerator.deepspeed_plugin.deepspeed_config
    if config["zero_optimization"]["stage"] > 2:
        raise UserError("zero_stage 3 of DeepSpeed shards the weights: launch with zero_stage 1 or 2.")
    if accelerator.mixed_precision != "no":
        raise UserError(
            "DeepSpeed trains 16-bit weights in mixed precision, and this script keeps them in 32 bits: launch with "
            "--mixed_precision no, or with --multi_gpu instead."
        )
    if has_discriminator:
        raise UserError("DeepSpeed trains one model, and a discriminator is a second one: launch with --multi_gpu.")
    ours = {
        "train_micro_batch_size_per_gpu": ("train_batch_size", settings.train_batch_size),
        "gradient_accumulation_steps": ("gradient_accumulation_steps", settings.gradient_accumulation_steps),
        "gradient_clipping": ("max_grad_norm", settings.max_grad_norm),
    }
    for name, (option, value) in ours.items():
        said = config.get(name, "auto")
        # Without a number of its own, DeepSpeed's configuration says one batch.
        if said not in ("auto", value) and (name, said) != ("gradient_accumulation_steps", 1):
            raise UserError(f"--{option} is {value}, and DeepSpeed's {name} is {said}: give both the same.")
        config[name] = value
    config["zero_allow_untested_optimizer"] = True
