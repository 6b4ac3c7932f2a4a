"""Templates of model cards, filled by `vae_plugin.hub.model_card`."""
