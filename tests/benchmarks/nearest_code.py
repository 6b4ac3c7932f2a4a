"""Time and memory of the codebook search and of a VQ training step, against `torch.cdist` and vector-quantize-pytorch.

    pip install vector-quantize-pytorch
    python tests/benchmarks/nearest_code.py --vectors 16384 --dims 8 64 256 --codes 1024 8192

For each size, side by side in one process, alternating, medians of `--repeats`:

- search: `nearest_code` against `torch.cdist(z, e).argmin(1)`, and against a whole matrix of distances by one `addmm`;
- step: forward and backward of `VectorQuantizer` in training mode (moving averages, straight-through, commitment),
  against that package's `VectorQuantize` with the same settings (no rotation trick), on latents (1, D, side, side).

Peak memory is what each adds to the process: in a child process of its own, the highest resident size minus that
before, after a small call that is not counted (Linux only). Ratios are theirs over ours: above 1, ours is faster or
smaller. Compare ratios, not times.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from vae_plugin.models import VectorQuantizer, nearest_code

Job = Callable[[], None]


def jobs(vectors: int, dim: int, codes: int) -> dict[str, Job]:
    """What is measured, by name; inputs are made here, outside the measurement."""
    torch.manual_seed(0)
    z, e = torch.randn(vectors, dim), torch.randn(codes, dim)
    side = round(vectors**0.5)
    latents = torch.randn(1, dim, side, side)
    ours = VectorQuantizer(codes, dim, kmeans_init=False, dead_code_threshold=0.0).train()

    def step(quantizer: torch.nn.Module) -> None:
        x = latents.clone().requires_grad_()
        quantized, _, losses = quantizer(x)
        loss = sum(losses.values()) if isinstance(losses, dict) else losses.sum()
        (quantized.square().mean() + loss).backward()

    found = {
        "nearest_code": lambda: nearest_code(z, e),
        "cdist": lambda: torch.cdist(z, e).argmin(1),
        "addmm": lambda: torch.addmm(e.square().sum(1) / 2, z, e.T, alpha=-1).argmin(1),
        "VectorQuantizer": lambda: step(ours),
    }
    try:
        from vector_quantize_pytorch import VectorQuantize
    except ImportError as error:
        warnings.warn(f"vector-quantize-pytorch is left out: {error}", stacklevel=2)
        return found
    settings = {"decay": 0.99, "commitment_weight": 0.25, "rotation_trick": False, "accept_image_fmap": True}
    theirs = VectorQuantize(dim=dim, codebook_size=codes, **settings).train()
    return {**found, "vector-quantize-pytorch": lambda: step(theirs)}


def highest_resident() -> float:
    """Highest resident size of this process since it was last reset, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this system does not say how much memory a process has used")


def _peak(name: str, size: tuple[int, int, int], answer: multiprocessing.Queue) -> None:
    warm = jobs(64, *size[1:2], 16)[name]
    warm()  # what libraries allocate once is nobody's
    job = jobs(*size)[name]
    Path("/proc/self/clear_refs").write_text("5")
    before = highest_resident()
    job()
    answer.put(highest_resident() - before)


def peak(name: str, size: tuple[int, int, int]) -> float:
    """Memory that one call adds, in MiB."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_peak, args=(name, size, answer))
    process.start()
    result = answer.get()
    process.join()
    return max(result, 0.1)


def times(measured: dict[str, Job], repeats: int) -> dict[str, float]:
    """Median seconds of each, taken in turns after one call that is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in measured}
    for round_number in range(repeats + 1):
        for name, job in measured.items():
            start = time.perf_counter()
            job()
            if round_number:
                taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in taken.items()}


def main() -> None:
    """Measure every size and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=16384, help="a square number")
    parser.add_argument("--dims", type=int, nargs="+", default=[8, 64, 256])
    parser.add_argument("--codes", type=int, nargs="+", default=[1024, 8192])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", help="names of what is measured; default: everything")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.vectors} vectors")
    print(f"{'D':>4} {'K':>6}  {'what':<24} {'ms':>9} {'MiB':>8}   time and memory over ours")
    for codes in options.codes:
        for dim in options.dims:
            size = (options.vectors, dim, codes)
            measured = jobs(*size)
            if options.only:
                measured = {name: job for name, job in measured.items() if name in options.only}
            seconds = times(measured, options.repeats)
            memory = {name: peak(name, size) for name in measured}
            for name in measured:
                ours = "nearest_code" if name in ("nearest_code", "cdist", "addmm") else "VectorQuantizer"
                ratio = ""
                if name != ours and ours in seconds:
                    ratio = f"{seconds[name] / seconds[ours]:6.1f}x {memory[name] / memory[ours]:8.1f}x"
                print(
                    f"{dim:>4} {codes:>6}  {name:<24} {1e3 * seconds[name]:>9.1f} {memory[name]:>8.0f}   {ratio}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
