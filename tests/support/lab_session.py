"""What tests of a lab's conversation with its front end share."""

import threading
from contextlib import contextmanager

import numpy as np
import torch

from support.tiny_lab import LIMIT, ask, levels


def fresh(lab):
    lab.shelf = []
    ask(lab, "pick", index=0)
    assert lab.wait(LIMIT)
    return lab


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def saved(lab, n=3):
    """Keys of n latents on the shelf, and the latents."""
    latents = [gaussian(*lab.latent.shape, seed=i) for i in range(n)]
    lab.shelf = {f"latent {i}": z for i, z in enumerate(latents)}
    return [item.key for item in lab.shelf], [z.double().numpy() for z in latents]


@contextmanager
def busy(lab):
    """The lab's thread does something else all the while."""
    begun, over = threading.Event(), threading.Event()
    lab._session.worker.request(lambda: (begun.set(), over.wait(LIMIT)))
    assert begun.wait(LIMIT)
    try:
        yield
    finally:
        over.set()


def close(z, wanted, tolerance=1e-5):
    np.testing.assert_allclose(z.numpy(), wanted, rtol=0, atol=tolerance)


def pictures(heard, name):
    """Of the last sheet of that name, all pictures (N, H, W, 4)."""
    parts = [(content, buffers) for content, buffers in heard if content.get("sheet") == name]
    parts = [part for part in parts if part[0]["number"] == parts[-1][0]["number"]]
    width, height = parts[0][0]["size"]
    found = [np.frombuffer(buffers[0], np.uint8).reshape(-1, height, width, 4) for _, buffers in parts]
    assert [content["first"] for content, _ in parts] == list(np.cumsum([0, *map(len, found[:-1])]))
    assert sum(map(len, found)) == parts[0][0]["total"]
    return np.concatenate(found)[..., :3].astype(int)


def decoded(lab, latents):
    with torch.no_grad():
        return [levels(image) for image in lab.model.decode(latents.float()).sample]


def decoded_one(lab, z):
    """The picture of one latent, in 8-bit levels."""
    return decoded(lab, z.reshape(1, *lab.latent.shape))[0]
