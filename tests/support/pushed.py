"""What the tests of pushes share: a small model, and what has arrived on the loopback Hub."""

from __future__ import annotations

import torch

from support.hub_repository import Commit
from support.hub_server import HubServer
from vae_plugin import AutoencoderVAE

REPO = "user/vae"


def new_model(seed: int = 0) -> AutoencoderVAE:
    """A small model."""
    torch.manual_seed(seed)
    return AutoencoderVAE(in_channels=1, block_out_channels=(8, 8), norm_num_groups=4, sample_size=16)


def commits(hub: HubServer, branch: str = "main") -> list[Commit]:
    """The commits to `REPO`, newest first, without the Hub's own."""
    return [commit for commit in hub.repositories[REPO].history(branch) if commit.title != "initial commit"]


def card(hub: HubServer, branch: str = "main") -> str:
    """The card of `REPO`."""
    return hub.repositories[REPO].resolve(branch).files["README.md"].content.decode()
