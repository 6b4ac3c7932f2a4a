"""The code of the README and of the guides runs: every block, in order, in a folder of its own.

Long runs are cut to a few steps, and what is published elsewhere is made on the spot; everything else runs as it is.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState
from diffusers import AutoencoderKL
from PIL import Image

from support.hub_server import HubServer
from vae_plugin.autoencoders.presentation import FAMILY_NAMES
from vae_plugin.autoencoders.registry import ADAPTERS
from vae_plugin.cli import main
from vae_plugin.widgets import LatentLab

ROOT = Path(__file__).resolve().parent.parent
PAGES = (
    "README.md", "examples/TRAINING.md", "examples/FINETUNING.md", "examples/LOSSES.md", "examples/PUBLISHING.md",
    "examples/LAB.md", "examples/ENCODING.md", "examples/MEASURING.md",
)  # fmt: skip
INSTALLS = ("python -m venv", "pip install", "pre-commit", "cosmic-ray", "cr-report")  # run by whoever runs this test
NETWORK = "support.published:network"
REPLACED = {  # what is published elsewhere
    "lpips-vgg": NETWORK,
    "convnext:distance": "support.published:another",
    "stabilityai/sd-vae-ft-mse": "published",
}
CUT = {"--resolution": "32", "--disc_start": "1", "--disc_warmup_steps": "0"}
FEWER = {"--max_images": "200"}
SHORT = ["--max_train_steps", "2", "--num_validation_images", "4", "--checkpointing_steps", "2"]
CIRCLES = ["--circles_length", "64"]
SMALL = ["--block_out_channels", "8", "8", "--norm_num_groups", "4"]
PHOTOS = ["--train_batch_size", "4"]
CONFIGS = {  # what each configuration is given in addition
    "examples/circles.yaml": CIRCLES,
    "examples/finetune-decoder.yaml": [
        *("--pretrained_model_name_or_path", "published", "--perceptual_loss", NETWORK, "--output_dir", "from-file"),
        *("--disc_start", "1", "--resolution", "32", *PHOTOS),
    ],
    "examples/distill-tiny.yaml": [
        *("--teacher", "published", "--perceptual_loss", NETWORK, "--output_dir", "tiny", "--resolution", "32", *PHOTOS)
    ],
}


def blocks(page: str) -> list[tuple[str, str]]:
    """(language, code) of the fenced blocks of a page."""
    return re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)


def commands(code: str) -> list[list[str]]:
    """The commands of a block of shell code, as words, without comments."""
    lines = code.replace("\\\n", " ").splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A folder with what the pages take for granted: photographs, a published autoencoder, `out` and `out-vq`."""
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "PHOTOS").mkdir()
    for i in range(40):
        image = Image.new("RGB", (280, 270), (6 * i, 90, 200))
        image.paste((250, 5 * i, 30), (3 * i, 50, 250, 200))
        image.save(folder / "PHOTOS" / f"{i:02d}.png")
    for name in ("photographs", "photos"):
        (folder / name).symlink_to("PHOTOS")
    sprites(folder / "sprites")
    (folder / "examples").symlink_to(ROOT / "examples")
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    model = AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4, sample_size=32, **blocks)
    model.save_pretrained(folder / "published")
    run(finetune(["--dataset_name", "circles", "--output_dir", str(folder / "out")]))
    vq = ["--model_type", "vqvae", "--codebook_size", "16", "--output_dir", str(folder / "out-vq")]
    run(finetune(vq))
    run(finetune(["--dataset_name", "circles", "--output_dir", str(folder / "other"), "--seed", "1"]))
    return folder


def sprites(folder: Path) -> None:
    """Images whose factors are in a table beside them."""
    folder.mkdir()
    rows = ["file_name,x,y,shape,angle"]
    for i in range(60):
        x, y, shape = 7 * i % 40, 11 * i % 40, ("bar", "square")[i % 2]
        image = Image.new("L", (64, 64))
        image.paste(255, (x, y, x + (8 if shape == "bar" else 20), y + 20))
        image.save(folder / f"{i}.png")
        rows.append(f"{i}.png,{x},{y},{shape},{i * 37 % 360}.5")
    (folder / "metadata.csv").write_text("\n".join(rows))


@pytest.fixture
def here(prepared, tmp_path, monkeypatch) -> Path:
    """A copy of it for one page, as the working directory."""
    folder = tmp_path / "here"
    shutil.copytree(prepared, folder, symlinks=True)
    monkeypatch.chdir(folder)
    return folder


def run(arguments: list[str]) -> None:
    """Run a command in this process, as if it were a new one: accelerate keeps the precision of the first run."""
    AcceleratorState._reset_state(reset_partial_state=True)
    assert main(arguments) == 0, " ".join(arguments)


def with_values(words: list[str], values: dict[str, str]) -> list[str]:
    """The words of a command, with other values of those flags that it has."""
    return [values.get(before, word) for before, word in zip(["", *words], words, strict=False)]


def finetune(words: list[str]) -> list[str]:
    """The arguments of a run, cut short."""
    parted = [word.partition("=") for word in words]  # a name may have a weight
    words = [REPLACED.get(name, name) + sign + weight for name, sign, weight in parted]
    words = with_values(words, CUT)
    if "--config" in words:
        return ["finetune", *words, *CONFIGS[words[words.index("--config") + 1]], *SHORT]
    words += PHOTOS if "--train_data_dir" in words else CIRCLES
    words += [] if "--pretrained_model_name_or_path" in words else SMALL
    return ["finetune", *words, *SHORT]


def arguments(words: list[str]) -> list[str]:
    """What `vae-plugin` is given for a command of a page."""
    if words[:3] == ["accelerate", "launch", "vae_plugin/finetune.py"]:
        return finetune(words[3:])
    if words[:2] == ["vae-plugin", "finetune"]:
        return finetune(words[2:])
    assert words[0] == "vae-plugin", words
    return with_values(words[1:], FEWER)


def published(commands: list[list[str]], home: Path) -> None:
    """Run commands that publish, in a process of their own, whose Hub is on this machine."""
    script = (
        "import json, sys; from vae_plugin.cli import main\n"
        "for given in json.loads(sys.argv[1]):\n    assert main(given) == 0, given"
    )
    with HubServer() as hub:
        result = subprocess.run(
            [sys.executable, "-c", script, json.dumps(commands)],
            env={**hub.environment(home), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_the_page_runs(page, here):
    names: dict = {}
    publishing = []
    found = blocks(page)
    assert {language for language, _ in found} <= {"bash", "python"}
    assert found
    for number, (language, code) in enumerate(found):
        if language == "python":
            exec(compile(code, page, "exec"), names)
            continue
        for words in commands(code):
            if " ".join(words).startswith(INSTALLS):
                continue
            given = arguments(words)
            if given[0] == "push":
                publishing.append(given)
            elif "--push_to_hub" in given:
                publishing.append([*given, "--output_dir", "pushed"])
            else:
                if given[0] == "finetune" and given[given.index("--output_dir") + 1] in ("out", "out-vq"):
                    given[given.index("--output_dir") + 1] = f"again-{number}-{len(given)}"
                run(given)
    if publishing:
        published(publishing, here / "home")
    for value in names.values():
        if isinstance(value, LatentLab):
            value.close()


def test_every_page_that_is_linked_is_there():
    for page in (*PAGES, "CONTRIBUTING.md", "CHANGELOG.md", "examples/SCALE.md", "tests/benchmarks/README.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


def test_python_versions_agree():
    [written] = re.findall(r"Python (3\.\d+) or newer", (ROOT / "README.md").read_text())
    [declared] = re.findall(r'requires-python = ">=(3\.\d+)"', (ROOT / "pyproject.toml").read_text())
    assert written == declared


def test_the_readme_names_every_class_and_every_family_of_pipelines():
    page = (ROOT / "README.md").read_text()
    assert {name for name in ADAPTERS if f"`{name}`" not in page} == set()
    assert {name for name in FAMILY_NAMES if f'"{name}"' not in page} == set()
