"""The commands of `vae-plugin`: argument lists and printing, nothing else.

Each is a module with a docstring, whose first line is its help, a dataclass of options, and `run(argv, prog)`.
"""
