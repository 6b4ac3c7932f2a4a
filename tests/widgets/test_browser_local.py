"""A page's own kernel, in JavaScript, against the lab's in Python: both are asked the same."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from support.tiny_lab import LIMIT, ask, errors, listen, open_lab
from vae_plugin.widgets.frontend import FOLDER
from vae_plugin.widgets.lab import LatentLab
from vae_plugin.widgets.page import json_for_html
from vae_plugin.widgets.page.contents import page_contents

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

ADDRESS = "http://127.0.0.1/modules"  # served from the folder by the browser's own router
RUN = """async ([address, text, steps]) => {
  const { LocalKernel } = await import(`${address}/local/kernel.js`);
  const bytes = (base64) => new DataView(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)).buffer);
  const page = JSON.parse(text, (_, value) => (typeof value?.base64 === "string" ? bytes(value.base64) : value));
  const [height, width] = page.decoder.imageSize;
  const black = () => new Uint8ClampedArray(4 * height * width);
  const decoder = {  // that costs nothing: what is compared are latents
    seconds: 0.001,
    imageSize: [height, width],
    decode: async (latents) => ({ pictures: latents.map(black), size: [width, height] }),
    decodeFull: async () => ({ pixels: black(), size: [width, height] }),
  };
  const kernel = new LocalKernel(page, decoder);
  const heard = [];
  kernel.on("msg:custom", (message, buffers) => heard.push([message, buffers]));
  const base64 = (view) => btoa(String.fromCharCode(...new Uint8Array(view.buffer, view.byteOffset, view.byteLength)));
  const results = [];
  for (const [number, { content, file }] of steps.entries()) {
    heard.length = 0;
    const keys = kernel.get("_shelf").map(({ key }) => key);
    const key = (_, i) => JSON.stringify(keys[i] ?? "none");
    const named = JSON.parse(JSON.stringify(content).replace(/"\\$(\\d)"/g, key));
    kernel.send({ view: "v", id: number, ...named }, undefined, file ? [bytes(file).buffer] : []);
    do await new Promise((done) => setTimeout(done, 2)); while (kernel.work.running);
    const frames = heard.filter(([{ kind, id }]) => kind === "frame" && id === number);
    const sheet = kernel.sheets.sheets.get(content.do);
    results.push({
      kinds: heard.filter(([{ id }]) => id === number).map(([{ kind }]) => kind),
      errors: heard.filter(([{ kind }]) => kind === "error").map(([{ text }]) => text),
      latent: [...kernel.state.latent],
      facts: frames.map(([{ facts }]) => facts),
      coordinates: frames.map(([{ coordinates }]) => coordinates),
      shelf: kernel.get("_shelf").map(({ name, norm }) => [name, norm]),
      sheet: sheet ? [sheet.latents.map((latent) => [...latent]), sheet.words] : null,
      files: heard.filter(([{ kind }]) => kind === "reply").map(([, buffers]) => buffers.map(base64)),
      text: heard.map(([{ text }]) => text).find(Boolean) ?? "",
    });
  }
  return results;
}"""
ANALOGY = {"op": "analogy", "a": "$0", "b": "$1", "c": "$2"}
BOTH = [  # requests; "$0" is the key of the first latent on the shelf
    {"do": "pick", "index": 1},
    {"do": "keep"},
    {"do": "posterior", "seed": 3},
    {"do": "keep", "name": "mine"},
    {"do": "posterior", "seed": None},
    {"do": "pick", "index": 2},
    {"do": "edit", "edits": [{"axis": "direction 1", "value": 1.5}, {"axis": "direction 2", "value": -1}]},
    {"do": "keep"},
    {"do": "keep"},
    {"do": "rename", "key": "$1", "name": "another"},
    {"do": "thumbnails", "keys": ["$0", "$2", "$9"]},
    {"do": "combine", "operation": ANALOGY, "gesture": "g1"},
    {"do": "combine", "operation": {"op": "sum", "weights": {"$0": 0.5, "$2": -1.25}}, "gesture": "g2"},
    {"do": "combine", "operation": {"op": "sum", "weights": {"$0": 0}}, "gesture": "g2"},
    {
        "do": "combine",
        "operation": {"op": "between", "a": "$0", "b": "$2", "t": 0.3, "method": "slerp"},
        "gesture": "g3",
    },
    {
        "do": "combine",
        "operation": {"op": "between", "a": "$0", "b": "$2", "t": 0.8, "method": "lerp"},
        "gesture": "g3",
    },
    {"do": "undo"},
    {"do": "combine", "operation": {"op": "attribute", "with": ["$0"], "without": ["$1", "$2"], "strength": 2}},
    {"do": "reset"},
    {"do": "take", "key": "$2"},
    {"do": "remove", "key": "$1"},
    {"do": "take", "key": "$9"},
    {"do": "strip", "axis": "direction 1", "low": -2.0, "high": 2.0, "steps": 5},
    {"do": "adopt", "sheet": "strip", "index": 4},
    {"do": "strip", "a": "$0", "b": "$1", "steps": 4},
    {"do": "adopt", "sheet": "strip", "index": 1},
    {"do": "prior", "source": "data", "seed": 5, "n": 3},
    {"do": "manifold", "x": "direction 1", "y": "direction 2", "ranges": [[-1, 2], [0, 3]], "n": 3},
    {"do": "manifold", "x": "direction 1", "y": "direction 2", "ranges": [[-1, 2], [0, 3]], "n": 3, "rows": 2},
    {"do": "ends", "axes": ["direction 2", "direction 1"]},
    {"do": "strip", "axes": ["direction 1", "direction 2"], "steps": 3},
    {"do": "adopt", "sheet": "strip", "index": 4},
    {"do": "strip", "a": "image:1", "b": "image:3", "steps": 3},
    {"do": "combine", "operation": {"op": "analogy", "a": "image:0", "b": "image:1", "c": "$0"}, "gesture": "g4"},
    {"do": "results", "operations": [{"op": "attribute", "with": ["image:2"], "without": ["image:1"], "strength": 2}]},
    {"do": "select", "rows": [2, 1]},
    {"do": "undo"},
    {"do": "undo"},
]
FLAT = [
    {"do": "edit", "edits": [{"axis": "dim 2", "value": 0.25}], "gesture": "a"},
    {"do": "edit", "edits": [{"axis": "label radius", "value": 0.2}], "gesture": "a"},
    {"do": "combine", "operation": {"op": "attribute", "label": "x", "value": None, "strength": -0.5}, "gesture": "b"},
    {"do": "combine", "operation": {"op": "attribute", "label": "x", "value": None, "strength": 0.5}, "gesture": "b"},
    {"do": "undo"},
    {"do": "prior", "seed": 2**40 + 7, "n": 12},
    {"do": "prior", "seed": 4, "n": 3},
    {"do": "prior", "seed": 9, "n": 1},
    {"do": "adopt", "sheet": "prior", "index": 0},
    {"do": "edit", "edits": [{"axis": "nowhere", "value": 0}]},
    {"do": "pick", "index": 10**6},
]
GRID = [
    {"do": "edit", "edits": [{"axis": "channel 1", "value": 0.5}]},
    {"do": "edit", "edits": [{"paint": {"cells": [[0, 1, 1], [2, 2, 0.5], [9, 0, 1]], "channel": 1, "amount": 2.5}}]},
    {"do": "keep"},
    {"do": "edit", "edits": [{"paint": {"cells": [[1, 1, 1], [3, 0, 1]], "from": "mean"}}]},
    {"do": "edit", "edits": [{"paint": {"cells": [[1, 2, 1]], "from": "$0"}}]},
    {"do": "prior", "seed": 1, "n": 2},
]


def text_of(lab):
    """What a page is told of a lab."""
    traits = {name: getattr(lab, name) for name in LatentLab.class_own_traits(sync=True)}
    return json_for_html(page_contents(lab._session, traits))


@pytest.fixture(scope="module")
def local_page(browser):
    """A page of the browser that can import the modules."""
    page = browser.context.new_page()

    def serve(route):
        name = route.request.url.removeprefix(f"{ADDRESS}/")
        if name == "page.html":
            route.fulfill(body="<!DOCTYPE html><title>modules</title>", content_type="text/html")
        else:
            route.fulfill(body=(FOLDER / name).read_text(encoding="utf-8"), content_type="text/javascript")

    page.route(f"{ADDRESS}/**", serve)
    page.goto(f"{ADDRESS}/page.html")

    yield page
    page.close()


@pytest.fixture(scope="module")
def local(local_page):
    """A function that asks the page's kernel of a lab, and returns what each request changed."""

    def run(lab, steps):
        given = [{"content": content, "file": file} for content, file in steps]
        return local_page.evaluate(RUN, [ADDRESS, text_of(lab), given])

    return run


def ask_both(local, lab, requests):
    """Each request with what it changed in the page, as it is asked of Python too."""
    answers = local(lab, [(request, None) for request in requests])
    for request, answer in zip(requests, answers, strict=True):
        keys = [item.key for item in lab.shelf]
        text = json.dumps(request)
        for i in range(10):
            text = text.replace(f'"${i}"', json.dumps(keys[i] if i < len(keys) else "none"))
        heard, content = listen(lab), json.loads(text)
        number = ask(lab, content.pop("do"), **content)
        assert lab.wait(LIMIT)
        yield request, answer, heard, number


def check_same(local, lab, requests):
    for request, answer, heard, number in ask_both(local, lab, requests):
        mine = [content for content, _ in heard if content.get("id") == number]
        assert answer["kinds"] == [content["kind"] for content in mine], request
        assert bool(answer["errors"]) == bool(errors(heard)), (request, answer["errors"], errors(heard))
        latent = lab.latent.flatten().tolist()
        assert answer["latent"] == pytest.approx(latent, abs=2e-5 * max(1, np.abs(latent).max())), request
        frames = [content for content in mine if content["kind"] == "frame"]
        assert len(frames) == len(answer["facts"])
        for frame, facts, coordinates in zip(frames, answer["facts"], answer["coordinates"], strict=True):
            assert coordinates == pytest.approx(frame["coordinates"], abs=1e-3), request
            for name in ("name", "edited", "sampled", "kl"):
                assert facts.get(name) == (
                    pytest.approx(frame["facts"].get(name)) if name == "kl" else frame["facts"][name]
                )
        shelf = {item["name"]: item["norm"] for item in lab.get_state()["_shelf"]}
        assert [name for name, _ in answer["shelf"]] == list(shelf), request
        assert dict(answer["shelf"]) == pytest.approx(shelf, abs=2e-3)
        assert [len(files) for files in answer["files"]] == [len(b) for c, b in heard if c["kind"] == "reply"], request
        sheet = lab._panel._sheets._sheets.get(request["do"])
        assert (answer["sheet"] is None) == (sheet is None)
        if sheet is not None:
            expected = sheet.latents.flatten(1).numpy()
            assert np.abs(np.array(answer["sheet"][0]) - expected).max() < 2e-5 * max(1, np.abs(expected).max()), (
                request
            )
            assert answer["sheet"][1] == list(sheet.words)


@pytest.mark.parametrize("name", ["circles", "conv", "mlp", "ema"])
def test_the_page_answers_as_the_kernel_does(local, name):
    requests = [*BOTH, *(FLAT if name == "circles" else GRID if name in ("conv", "ema") else [])]
    if name == "ema":
        requests = [r for r in requests if r["do"] not in ("posterior",) and r.get("source") != "prior"]
        requests = [r for r in requests if not (r["do"] == "prior" and "source" not in r)]
    with open_lab(None if name == "circles" else name) as lab:
        lab.keep("before")
        lab.latent = lab.latent + 0.25
        assert lab.wait(LIMIT)
        check_same(local, lab, requests)


SLOW = """async ([address, text]) => {
  const { LocalKernel } = await import(`${address}/local/kernel.js`);
  const bytes = (base64) => new DataView(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)).buffer);
  const page = JSON.parse(text, (_, value) => (typeof value?.base64 === "string" ? bytes(value.base64) : value));
  const asked = [];
  const decoder = {
    seconds: 0.3,
    imageSize: page.decoder.imageSize,
    decode: async ([latent], shape) => {
      asked.push([[...latent], shape]);
      return { pictures: [new Uint8ClampedArray(4 * 64)], size: [8, 8] };
    },
    decodeFull: async () => ({ pixels: new Uint8ClampedArray(4 * 256), size: [16, 16] }),
  };
  const kernel = new LocalKernel(page, decoder);
  const frames = [];
  await new Promise((done) => {
    kernel.on("msg:custom", (message) => {
      if (message.kind === "frame") frames.push([message.id ?? null, message.preview, message.size]);
      if (message.kind === "dropped") frames.push([message.id, "dropped"]);
      if (message.preview === false) done();
    });
    for (const id of [1, 2]) kernel.send({ do: "edit", edits: [{ axis: "channel 0", value: id }], view: "v", id });
  });
  return [asked, frames, [...kernel.state.latent]];
}"""


def test_a_slow_decoder_gives_a_small_picture_first(local_page):
    with open_lab("conv") as lab:
        asked, frames, latent = local_page.evaluate(SLOW, [ADDRESS, text_of(lab)])
        assert lab._session.codec.latent_shape == (4, 8, 8)
    small = torch.nn.functional.avg_pool2d(torch.tensor(latent).view(1, 4, 8, 8), 2)
    assert asked[-1][1] == [4, 4, 4]
    assert asked[-1][0] == pytest.approx(small.flatten().tolist(), abs=1e-6)
    # The first request was overtaken; the second has a preview, and what follows it in a pause answers no request.
    assert [frame for frame in frames if frame[0] is not None] == [[1, "dropped"], [2, True, [8, 8]]]
    assert frames[-1] == [None, False, [16, 16]]
