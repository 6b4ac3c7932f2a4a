"""Images per second of loading: small ones beside a loop over a tensor, large JPEGs beside plain PIL, and start-up.

    python tests/benchmarks/loading.py circles
    python tests/benchmarks/loading.py small --data_dir PARQUET_OR_FOLDER --resolution 28 --channels 1
    python tests/benchmarks/loading.py large [--data_dir PHOTOGRAPHS] --resolution 256
    python tests/benchmarks/loading.py start --files 1000 10000 100000

All by CPU time of one thread, in turn in one process, medians of --repeats. "plain PIL" opens, converts, resizes the
largest centre square and scales, with numpy; "one by one" are the items of our data set singly. Without --data_dir
`large` makes JPEGs of 12 megapixels with the spectrum of photographs. `start` makes folders of tiny files, and opens
each by `load_data`, as a run does.
"""

import argparse
import io
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset, TensorDataset

from vae_plugin.datasets import Circles, ImageDataset, collate, load_images
from vae_plugin.training.data import NEW, load_data
from vae_plugin.training.settings.data import DataSettings

IMAGES = 512


def rate(load: Callable[[], object], images: int, repeats: int) -> float:
    """Images per second of CPU time."""
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        load()
        times.append(time.process_time() - begin)
    return images / statistics.median(times)


def in_batches(dataset: object, batch_size: int) -> Callable[[], object]:
    """A pass over a data set as a run makes it."""
    return lambda: [None for _ in DataLoader(dataset, batch_size=batch_size, collate_fn=collate)]  # type: ignore[arg-type]


def in_memory(images: torch.Tensor, batch_size: int) -> Callable[[], object]:
    """A bare loop over a tensor in memory, by torch's own loader."""
    return lambda: [None for _ in DataLoader(TensorDataset(images), batch_size=batch_size)]


def plain(images: ImageDataset, rows: range) -> Callable[[], object]:
    """The same centre crops by PIL and numpy alone."""
    side, mode = images.framing.resolution, {1: "L", 3: "RGB"}[images.channels]

    def load() -> list[np.ndarray]:
        found = []
        for row in rows:
            value = images.table[row][images.image_column]
            image = Image.open(value["path"] if value["bytes"] is None else io.BytesIO(value["bytes"])).convert(mode)
            shorter = min(image.size)
            left, top = (image.width - shorter) / 2, (image.height - shorter) / 2
            image = image.resize((side, side), Image.Resampling.LANCZOS, box=(left, top, left + shorter, top + shorter))
            found.append(np.asarray(image, dtype=np.float32) / 127.5 - 1)
        return found

    return load


def photographs(folder: Path, count: int = 4) -> Path:
    """JPEGs of 4000 x 3000 pixels whose amplitudes fall with 1 / frequency."""
    for i in range(count):
        rng = np.random.default_rng(i)
        frequency = np.hypot(np.fft.fftfreq(3000)[:, None], np.fft.rfftfreq(4000)[None]) + 1 / 4000
        gray = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((3000, 4000))) / frequency)
        pixels = np.clip(128 + 45 * gray / gray.std(), 0, 255).astype(np.uint8)
        bands = np.stack([pixels, np.roll(pixels, 5, 0), 255 - pixels // 2], -1)
        Image.fromarray(bands).save(folder / f"{i}.jpg", quality=90)
    return folder


def start(counts: list[int]) -> None:
    """Seconds and memory to open folders of so many files."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "PNG")
    for count in counts:
        with tempfile.TemporaryDirectory() as name:
            for i in range(count):
                folder = Path(name, f"{i // 1000:03}")
                folder.mkdir(exist_ok=True)
                (folder / f"{i:06}.png").write_bytes(file.getvalue() + str(i).encode())
            settings = DataSettings(train_data_dir=(name,), resolution=16)
            load_data(settings, 0, 3, NEW)  # the file system's own memory is warm
            begin = time.process_time()
            load_data(settings, 0, 3, NEW)
            seconds = time.process_time() - begin
            tracemalloc.start()
            load_data(settings, 0, 3, NEW)
            peak = tracemalloc.get_traced_memory()[1] / 2**20
            tracemalloc.stop()
            print(
                f"{count:>9,} files: {seconds:6.2f} s, {1e6 * seconds / count:5.0f} us a file, at most {peak:6.1f} MiB"
            )


def report(ways: dict[str, Callable[[], object]], images: int, repeats: int) -> None:
    """Print the rate of each way."""
    for name, way in ways.items():
        print(f"{name:>20}: {rate(way, images, repeats):10,.1f}/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["circles", "small", "large", "start"])
    parser.add_argument("--data_dir")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--files", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "start":
        return start(args.files)
    if args.what == "circles":
        circles = Circles(IMAGES, args.resolution)
        ways = {
            "a tensor in memory": in_memory(circles.render(circles.factors), args.batch_size),
            "drawn in batches": in_batches(circles, args.batch_size),
            "one by one": lambda: [circles[i] for i in range(IMAGES)],
        }
        count = IMAGES
    else:
        with tempfile.TemporaryDirectory() as name:
            folder = args.data_dir or photographs(Path(name))
            source = {"train_data_dir": folder, "resolution": args.resolution, "channels": args.channels}
            images = load_images(**source, center_crop=True)
            count = min(len(images), IMAGES if args.what == "small" else 16)
            part, batch = Subset(images, range(count)), min(args.batch_size, count)
            kept = Subset(load_images(**source, center_crop=True, keep_bytes=2**29), range(count))
            tensor = torch.stack([images[i]["pixel_values"] for i in range(count)])
            ways = {
                "plain PIL": plain(images, range(count)),
                "read in batches": in_batches(part, batch),
                "kept in memory": in_batches(kept, batch),
                "a tensor in memory": in_memory(tensor, batch),
            }
            ways["kept in memory"]()
            return report(ways, count, args.repeats)
    return report(ways, count, args.repeats)


if __name__ == "__main__":
    main()
