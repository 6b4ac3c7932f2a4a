"""CPU seconds until `vae-plugin` can answer: imports, each in a process of its own, in turn.

    python tests/benchmarks/imports.py --repeats 5

What the package needs itself is imported before: torch, and `AutoencoderKL` of diffusers, which is most of the time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

NEEDED = "from diffusers import AutoencoderKL"
JOBS = {
    NEEDED: ("", NEEDED),
    "... and then vae_plugin": (NEEDED, "import vae_plugin"),
    "... and then vae_plugin.cli": ("import vae_plugin", "import vae_plugin.cli"),
    **{
        f"... and then the command {name}": ("import vae_plugin", f"import vae_plugin.commands.{name}")
        for name in ("finetune", "evaluate", "card")
    },
    "... and then vae_plugin.widgets": ("import vae_plugin", "import vae_plugin.widgets"),
}


def seconds(before: str, measured: str) -> float:
    """CPU seconds of a statement in a new process, after another one."""
    code = f"import time\n{before}\nbegin = time.process_time()\n{measured}\nprint(time.process_time() - begin)"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    taken = [{name: seconds(*job) for name, job in JOBS.items()} for _ in range(args.repeats)]
    for name in JOBS:
        found = [of[name] for of in taken]
        print(f"{name:<45} {statistics.median(found):.3f} ({min(found):.3f} to {max(found):.3f})")


if __name__ == "__main__":
    main()
