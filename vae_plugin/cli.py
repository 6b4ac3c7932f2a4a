"""The `vae-plugin` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .commands import card, demo, encode, evaluate, export, finetune, push, reconstruct
from .errors import exit_status
from .near import hint
from .version import __version__

COMMANDS = {  # in the order of the help
    "demo": demo,
    "finetune": finetune,
    "evaluate": evaluate,
    "encode": encode,
    "reconstruct": reconstruct,
    "push": push,
    "card": card,
    "export": export,
}


def usage() -> str:
    """Text of `vae-plugin --help`, from the docstrings of the commands."""
    commands = "\n".join(f"  {name:<12} {(module.__doc__ or '').splitlines()[0]}" for name, module in COMMANDS.items())
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
    return exit_status(lambda: COMMANDS[command].run(rest, f"vae-plugin {command}"))


if __name__ == "__main__":
    sys.exit(main())
