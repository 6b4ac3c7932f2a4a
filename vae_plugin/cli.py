"""The `vae-plugin` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from .errors import exit_status
from .near import hint
from .version import __version__

COMMANDS = {  # in the order of the help: the first line of each module's docstring
    "demo": "Train on circles, load the result in a diffusers pipeline and generate (3 to 5 minutes, no download).",
    "finetune": "Train an autoencoder from scratch, or fine-tune an existing one.",
    "evaluate": "Measure one model, or several on the same images.",
    "encode": "Encode a data set: its latents as files that trainers of diffusion models read.",
    "reconstruct": "Encode and decode image files, and write each beside its reconstruction.",
    "lab": "Write the lab of a model as a page: one HTML file, whose decoder runs in the browser.",
    "push": "Publish a model or a pipeline on the Hub, in one commit.",
    "card": "Write the model card of a folder again.",
    "export": "Write a model in the file formats of other tools.",
}


def module_of(command: str) -> Any:
    """The module of a command. Only that one is imported: each brings libraries of its own."""
    match command:
        case "demo":
            from .commands import demo

            return demo
        case "finetune":
            from .commands import finetune

            return finetune
        case "evaluate":
            from .commands import evaluate

            return evaluate
        case "encode":
            from .commands import encode

            return encode
        case "reconstruct":
            from .commands import reconstruct

            return reconstruct
        case "lab":
            from .commands import lab

            return lab
        case "push":
            from .commands import push

            return push
        case "card":
            from .commands import card

            return card
        case "export":
            from .commands import export

            return export
    raise LookupError(command)


def usage() -> str:
    """Text of `vae-plugin --help`."""
    commands = "\n".join(f"  {name:<12} {summary}" for name, summary in COMMANDS.items())
    return (
        f"vae-plugin {__version__}: own your latent space\n\n"
        f"usage: vae-plugin COMMAND [OPTIONS]    (vae-plugin COMMAND --help lists the options)\n\n{commands}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status, see `errors.exit_status`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(__version__)
        return 0
    command, rest = arguments[0], arguments[1:]
    if command not in COMMANDS:
        meant = hint(command, COMMANDS, f"it must be one of {', '.join(COMMANDS)}.")
        print(f"error: unknown command {command!r}: {meant}", file=sys.stderr)
        return 2
    run = module_of(command).run
    return exit_status(lambda: run(rest, f"vae-plugin {command}"))


if __name__ == "__main__":
    sys.exit(main())
