"""Train an autoencoder from scratch, or fine-tune an existing one."""

from __future__ import annotations

from .. import finetune

run = finetune.main
