"""One adapter for each family of autoencoders."""
