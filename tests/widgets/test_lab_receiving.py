"""What a panel sends: large files in pieces, and questions whether the kernel is there."""

import itertools
import threading

import numpy as np
import pytest
import safetensors.torch
import torch

from support.tiny_lab import LIMIT, ask, errors, kinds, listen, one_sentence, open_lab
from vae_plugin.errors import UserError
from vae_plugin.widgets import uploads
from vae_plugin.widgets.uploads import Uploads


@pytest.mark.parametrize("seed", range(8))
def test_a_file_in_pieces_is_the_file(seed):
    dice = np.random.default_rng(seed)
    received = Uploads()
    for number in range(3):  # one after another
        data = dice.bytes(int(dice.integers(1, 5000)))
        cuts = [0, *sorted(set(dice.integers(1, len(data) + 1, 6).tolist()) - {len(data)}), len(data)]
        pieces = [(begin, data[begin:end]) for begin, end in itertools.pairwise(cuts)]
        for at, piece in pieces[:-1]:
            received.add(number, at, piece)
        assert received.finish(number, *pieces[-1]) == data


@pytest.mark.parametrize("fault", ["lost", "twice", "other", "too large"])
def test_a_piece_that_does_not_fit(fault, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_UPLOAD", 25)
    received = Uploads()
    received.add("a", 0, bytes(10))
    name, at, piece = {
        "lost": ("a", 20, bytes(1)),
        "twice": ("a", 5, bytes(5)),
        "other": ("b", 10, bytes(5)),
        "too large": ("a", 10, bytes(16)),
    }[fault]
    with pytest.raises(UserError) as raised:
        received.add(name, at, piece)
    assert one_sentence(raised.value)
    with pytest.raises(UserError):  # nothing of it is left
        received.finish("a", 10, bytes(5))
    assert received.finish("c", 0, b"abc") == b"abc"


def test_a_large_file_from_the_panel():
    with open_lab("conv", max_images=3) as lab:
        z = torch.randn(lab.latent.shape, generator=torch.Generator().manual_seed(0))
        data = safetensors.torch.save({"far": z, "ballast": torch.zeros(3_000_000)})
        heard = listen(lab)
        starts = range(0, len(data), 4 * 2**20)
        for at in starts[:-1]:
            number = ask(lab, "piece", [data[at : at + 4 * 2**20]], upload=1, at=at)
            assert kinds(heard, number) == ["reply"]
        ask(lab, "open", [data[starts[-1] :]], name="far.safetensors", upload=1, at=starts[-1])
        assert lab.wait(LIMIT)
        assert errors(heard) == []
        assert torch.equal(lab.latent, z)


def test_a_request_is_being_worked_on_until_it_is_answered():
    with open_lab("mlp", max_images=3) as lab:
        heard, gate, begun = listen(lab), threading.Event(), threading.Event()
        lab._session.worker.request(lambda: (begun.set(), gate.wait(LIMIT)))
        assert begun.wait(LIMIT)

        def working(*ids):
            number = ask(lab, "alive", ids=list(ids))
            [answer] = [content for content, _ in heard if content.get("id") == number]
            return answer["working"]

        try:
            saving, picking = ask(lab, "save", what="png"), ask(lab, "pick", index=99)
            assert kinds(heard, picking) == ["dropped"]
            assert working(saving, picking, 10**6) == [saving]
        finally:
            gate.set()
        assert lab.wait(LIMIT)
        assert working(saving) == []
        assert kinds(heard, saving) == ["reply"]
