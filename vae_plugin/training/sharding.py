"""What DeepSpeed and FSDP can do here, and one sentence for what they cannot."""

from __future__ import annotations

from accelerate import Accelerator
from accelerate.utils import DistributedType

from ..errors import UserError
from .finetune_options import FinetuneOptions


def prepare_sharding(accelerator: Accelerator, options: FinetuneOptions) -> None:
    """Tell DeepSpeed what it asks for; refuse what would train something else than the options say.

    Raises:
        UserError: for weights that no process has whole, or a combination that DeepSpeed has not.
    """
    if accelerator.distributed_type == DistributedType.FSDP:
        raise UserError(
            "FSDP spreads the weights over the processes, and averages, evaluation and codebooks need them whole; an "
            "autoencoder fits on each: launch with --multi_gpu, or with DeepSpeed's zero_stage 1 or 2."
        )
    if accelerator.distributed_type != DistributedType.DEEPSPEED:
        return
    config = accelerator.deepspeed_plugin.deepspeed_config
    if config["zero_optimization"]["stage"] > 2:
        raise UserError("DeepSpeed's zero_stage 3 spreads the weights themselves: launch with zero_stage 1 or 2.")
    if accelerator.mixed_precision != "no":
        raise UserError(
            "DeepSpeed trains weights of 16 bits in mixed precision, this script keeps them in 32: launch it with "
            "--mixed_precision no, or with --multi_gpu instead."
        )
    if options.disc_start is not None:
        raise UserError("DeepSpeed has one model to a run, a discriminator is a second one: launch with --multi_gpu.")
    config.update(
        train_micro_batch_size_per_gpu=options.train_batch_size,
        gradient_accumulation_steps=options.gradient_accumulation_steps,
        gradient_clipping=options.max_grad_norm,
        zero_allow_untested_optimizer=True,
    )
