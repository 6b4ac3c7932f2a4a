"""Templates of model cards, for `vae_plugin.hub.model_card`."""
