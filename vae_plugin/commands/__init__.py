"""The commands of `vae-plugin`: argument lists and printing, nothing else."""
