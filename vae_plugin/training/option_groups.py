"""Which options of `FinetuneOptions` belong together: what they are said of, and when they may change."""

from __future__ import annotations

CODEBOOK_OPTIONS = (
    "quantizer", "codebook_size", "codebook_dim", "commitment_weight", "ema_decay", "codebook_distance",
    "quantizer_gradient", "kmeans_init", "dead_code_threshold", "entropy_weight", "num_quantizers", "fsq_levels",
)  # fmt: skip
NEW_MODEL_OPTIONS = (
    "network", "block_out_channels", "layers_per_block", "norm_num_groups", "mid_block_add_attention",
    "latent_channels", "hidden_sizes", "mlp_act_fn", "likelihood", "sigma", "num_mixtures",
)  # fmt: skip
CONFIG_NAMES = {"quantizer": "quantizer_type", "codebook_size": "num_vq_embeddings", "codebook_dim": "vq_embed_dim"}
KL_OPTIONS = ("alpha", "beta", "kl_warmup_steps", "free_bits", "capacity", "capacity_steps")
DISCRIMINATOR_OPTIONS = (
    "disc_loss", "disc_scale", "disc_adaptive_weight", "disc_channels", "disc_layers", "disc_learning_rate",
    "disc_regularization", "disc_regularization_scale",
)  # fmt: skip
HUB_OPTIONS = (
    "push_to_hub", "hub_model_id", "hub_private_repo", "hub_revision", "hub_strategy", "license", "export_remote_code",
)  # fmt: skip
RECIPE_OPTIONS = ("learned_variance", "kl_scale", "perceptual_loss", "latent_anchor", "disc_start")

# What may be another when a run is continued: how long it goes on, how it is reported, how many images make a step (so
# that they stay the same with another number of processes), and the weights and rates of the steps to come. Everything
# else decides what the weights mean or which images come next, and stays as it was.
FREE_ON_RESUME = (
    "output_dir", "resume_from_checkpoint", "max_train_steps", "num_train_epochs", "checkpointing_steps",
    "checkpoints_total_limit", "validation_steps", "report_to", "dataloader_num_workers", "gradient_checkpointing",
    "mixed_precision", "learning_rate", "lr_scheduler", "lr_warmup_steps", "adam_beta1", "adam_beta2", "adam_epsilon",
    "adam_weight_decay", "max_grad_norm", *KL_OPTIONS, "kl_weight", "kl_scale", "perceptual_scale", "latent_anchor",
    "latent_scale", "disc_scale", "disc_learning_rate", "disc_regularization_scale", "compile", "channels_last",
    "latent_scaling", "train_batch_size", "gradient_accumulation_steps", *HUB_OPTIONS,
)  # fmt: skip
