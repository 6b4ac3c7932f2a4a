"""The Python that a lab shows, run in another process that has nothing: latent and picture are the same to the bit."""

import json
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from support.tiny_lab import LIMIT, ask, listen, open_lab, tiny
from vae_plugin.widgets import LatentLab

RUN = """
import json, sys
import numpy as np
for name in json.loads(sys.argv[1]):
    names = {}
    exec(open(f"{name}.py", encoding="utf-8").read(), names)
    np.savez(f"{name}.fresh.npz", z=names["z"].numpy(), picture=np.asarray(names["picture"].convert("RGB")))
"""
SAVED = ("conv", "mlp", "rvq", "fsq", "AutoencoderKL", "AutoencoderTiny", "VQModel")
SESSIONS = [(name, source) for name in SAVED for source in ("folder", "arrays", "circles")]


def images_of(source, folder):
    generator = np.random.default_rng(7)
    arrays = [generator.integers(0, 256, (20 + i, 33, 3), dtype=np.uint8) for i in range(6)]
    if source == "arrays":
        return arrays
    if source == "circles":
        return None
    (folder / "it's {0}").mkdir(parents=True, exist_ok=True)
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(folder / "it's {0}" / f"ünï {i}.png")
    return folder


def session(lab, dice, folder):
    """Random changes, of every kind that the panel has."""
    shape, discrete = lab.latent.shape, lab._session.codec.discrete

    def edit(*edits, gesture=None):
        ask(lab, "edit", edits=list(edits), gesture=gesture)

    def keys(n):
        while len(lab.shelf) < n:
            lab.keep(dice.choice(["z", "image", "a b", "ünï {", "lambda"]))
        return [item.key for item in dice.sample(list(lab.shelf), n)]

    def drag():
        axis, gesture = dice.choice(list(lab.space.axes)), dice.random()
        for _ in range(3):
            edit({"axis": axis, "value": dice.gauss(0, 1)}, gesture=str(gesture))

    def brush():
        cells = [[dice.randrange(shape[1]), dice.randrange(shape[2]), dice.random()] for _ in range(4)]
        channel, amount = dice.randrange(shape[0]), dice.gauss(0, 1) / 3
        for _ in range(2):
            edit({"paint": {"cells": cells, "channel": channel, "amount": amount}})

    def copy():
        cells = [[dice.randrange(shape[1]), dice.randrange(shape[2]), 1.0] for _ in range(4)]
        edit({"paint": {"cells": cells, "from": dice.choice(["mean", *keys(1)])}})

    def code():
        y, x = dice.randrange(shape[1]), dice.randrange(shape[2])
        edit({"code": {"y": y, "x": x, "stage": 0, "code": dice.randrange(8)}})

    def combine():
        a, b, c = keys(3)
        operations = [
            {"op": "analogy", "a": a, "b": b, "c": c},
            {"op": "sum", "weights": {a: dice.random(), b: -dice.random()}},
            {"op": "between", "a": a, "b": b, "t": dice.random(), "method": dice.choice(["slerp", "lerp"])},
            {"op": "attribute", "with": [a, b], "without": [c], "strength": dice.random()},
        ]
        ask(lab, "combine", operation=dice.choice(operations))

    def sheet():
        which = dice.choice(["strip", "prior"])
        if which == "strip":
            ask(lab, "strip", axis=dice.choice(list(lab.space.axes)), low=-2.3, high=1.1, steps=4)
        else:
            ask(lab, "prior", n=3, seed=dice.randrange(99), source=dice.choice(["prior", "data"]))
        assert lab.wait(LIMIT)
        ask(lab, "adopt", sheet=which, index=dice.randrange(3))

    def posterior():
        ask(lab, "posterior", seed=dice.randrange(99))

    def python():
        value = dice.choice(["latent", "image", "path"])
        if value == "latent":
            lab.latent = torch.randn(shape, generator=torch.Generator().manual_seed(dice.randrange(99)))
        elif value == "image":
            lab.image = np.random.default_rng(dice.randrange(99)).random((16, 16, 3))
        else:
            path = folder / f"one image {dice.random()}.png"
            Image.new("RGB", (40, 30), (dice.randrange(256), 10, 200)).save(path)
            with Image.open(path) as image:
                lab.image = dice.choice([path, str(path), image.copy(), image])

    def pick():
        ask(lab, "pick", index=dice.randrange(len(lab.images)))

    def take():
        ask(lab, "take", key=keys(1)[0])

    spatial = [brush, copy] if shape[1] > 1 else []
    actions = [drag, drag, combine, sheet, posterior, python, pick, take, *spatial, *([code] * 2 if discrete else [])]
    for _ in range(dice.randrange(12)):
        dice.choice(actions)()
        assert lab.wait(LIMIT)


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    """The codes of random sessions, with what they are to give."""
    folder = tmp_path_factory.mktemp("fresh")
    for number, (name, source) in enumerate(SESSIONS):
        tiny(name).save_pretrained(folder / name)
        with open_lab(str(folder / name), images_of(source, folder / source), max_images=6) as lab:
            listen(lab)
            session(lab, random.Random(number), folder)
            assert lab.wait(LIMIT)
            picture = np.asarray(lab.image.convert("RGB"))
            np.savez(folder / f"{number}.npz", z=lab.latent.numpy(), picture=picture)
            (folder / f"{number}.py").write_text(lab.code, encoding="utf-8")
    numbers = json.dumps([str(number) for number in range(len(SESSIONS))])
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    script = RUN.replace('f"{name}', f'"{folder}/" + f"{{name}}')
    done = subprocess.run([sys.executable, "-c", script, numbers], cwd=elsewhere, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("number", range(len(SESSIONS)), ids=lambda i: "-".join(SESSIONS[i]))
def test_code_in_a_fresh_process(sessions, number):
    wanted, found = np.load(sessions / f"{number}.npz"), np.load(sessions / f"{number}.fresh.npz")
    assert found["z"].tobytes() == wanted["z"].tobytes()
    assert found["picture"].tobytes() == wanted["picture"].tobytes()


def test_the_code_does_not_name_what_only_this_kernel_has(sessions):
    for number in range(len(SESSIONS)):
        assert "lab." not in (sessions / f"{number}.py").read_text(encoding="utf-8")


def test_the_bundled_model(tmp_path):
    lab = LatentLab(max_images=3)
    try:
        ask(lab, "edit", edits=[{"axis": "direction 1", "value": 0.5}])  # whether or not the axes are known by now
        code, z = lab.code, lab.latent.numpy()
    finally:
        lab.close()
    save = f"\nz.numpy().tofile({str(tmp_path / 'z')!r})\n"
    subprocess.run([sys.executable, "-c", code + save], cwd=tmp_path, check=True)
    assert (tmp_path / "z").read_bytes() == z.tobytes()


def test_a_model_that_was_changed_after_it_was_opened_is_not_opened_again(tmp_path):
    tiny("conv").save_pretrained(tmp_path / "model")
    model = type(tiny("conv")).from_pretrained(tmp_path / "model")
    with open_lab(model, max_images=3) as lab:
        assert f"load_autoencoder({str(tmp_path / 'model')!r})" in lab.code
        with torch.no_grad():
            next(model.decoder.parameters()).add_(1)
        assert "vae = lab.model  # made in Python" in lab.code
