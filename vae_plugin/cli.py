"""The `vae-plugin` command."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches

from . import finetune
from .commands import demo, evaluate, export, reconstruct
from .commands.push import run_card, run_push
from .errors import exit_status
from .version import __version__

COMMANDS: dict[str, tuple[Callable[[Sequence[str], str], object], str]] = {
    "demo": (demo.run, "train on circles, load the result in a diffusers pipeline, leave pictures (3 minutes)"),
    "finetune": (finetune.main, "train an autoencoder from scratch, or fine-tune an existing one"),
    "evaluate": (evaluate.run, "measure a model on images"),
    "push": (run_push, "publish a model on the Hub"),
    "card": (run_card, "write the model card of a folder again"),
    "reconstruct": (reconstruct.run, "encode and decode image files"),
    "export": (export.run, "write a model in the files of other tools"),
}


def usage() -> str:
    """The text of `vae-plugin --help`."""
    commands = "\n".join(f"  {name:<12} {text}" for name, (_, text) in COMMANDS.items())
    return (
        f"vae-plugin {__version__}: own your latent space\n\n"
        f"usage: vae-plugin COMMAND [OPTIONS]    (vae-plugin COMMAND --help lists the options)\n\n{commands}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the status is that of `errors.exit_status`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(__version__)
        return 0
    command, rest = arguments[0], arguments[1:]
    if command not in COMMANDS:
        near = get_close_matches(command, COMMANDS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"it must be one of {', '.join(COMMANDS)}."
        print(f"error: unknown command {command!r}: {hint}", file=sys.stderr)
        return 2
    run, _ = COMMANDS[command]
    return exit_status(lambda: run(rest, f"vae-plugin {command}"))


if __name__ == "__main__":
    sys.exit(main())
