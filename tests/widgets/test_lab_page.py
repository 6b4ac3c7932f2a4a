"""Pages of a lab: what they refuse, and where their runtime comes from. Browsers open them in test_browser_page.py."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import tarfile
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torch import nn

from support.tiny_lab import open_lab, tiny
from vae_plugin.cli import main
from vae_plugin.errors import UserError
from vae_plugin.hub.card import model_card
from vae_plugin.hub.record import RunRecord
from vae_plugin.widgets import frontend, page
from vae_plugin.widgets.page import decoder, runtime
from vae_plugin.widgets.page.contents import ABSENT, ABSENT_OF_BANDS, ABSENT_OF_CODES
from vae_plugin.widgets.page.runtime import PACKAGE, SCRIPT, VERSION, WASM, find_runtime, registry
from vae_plugin.widgets.panel import Panel

CONTENT = {SCRIPT: b"const a=1;export{a as b,a as default};\n//#", WASM: b"\0asm"}
TARBALL = f"/{PACKAGE}/-/{PACKAGE}-{VERSION}.tgz"


def tarball(files=CONTENT):
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return written.getvalue()


GOOD = tarball()


@contextmanager
def npm_registry(answers):
    """A registry on the loopback that has some files; yields its address and what was asked of it."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            data = answers.get(self.path)
            self.send_response(404 if data is None else 200)
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def pinned(monkeypatch, tmp_path):
    """A small package in place of the real one, and an empty cache."""
    monkeypatch.setattr(runtime, "INTEGRITY", base64.b64encode(hashlib.sha512(GOOD).digest()).decode())
    monkeypatch.setattr(runtime, "FILES", {n: hashlib.sha256(data).hexdigest() for n, data in CONTENT.items()})
    monkeypatch.setattr(runtime, "cached_assets_path", lambda *names: Path(tmp_path, "cache", *names))
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY", "NPM_CONFIG_USERCONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_the_package_is_fetched_once(pinned, monkeypatch):
    with npm_registry({TARBALL: GOOD}) as (address, asked):
        monkeypatch.setenv("npm_config_registry", f"{address}/")
        found = find_runtime()
        assert (found.script, found.wasm) == (CONTENT[SCRIPT], CONTENT[WASM])
        assert find_runtime() == found
        assert asked == [TARBALL]
        (kept,) = (path for path in Path.home().rglob(WASM))
        kept.write_bytes(b"damaged")
        assert find_runtime() == found
        assert asked == [TARBALL, TARBALL]


def test_another_package_is_refused_and_not_kept(pinned, monkeypatch):
    with npm_registry({TARBALL: tarball({**CONTENT, WASM: b"changed"})}) as (address, _):
        monkeypatch.setenv("npm_config_registry", address)
        with pytest.raises(UserError, match=r"another SHA-512 .*npm pack"):
            find_runtime()
    assert not list(Path.home().rglob(WASM))


def test_a_registry_out_of_reach(pinned, monkeypatch):
    with npm_registry({}) as (address, _):
        monkeypatch.setenv("npm_config_registry", address.replace("//", "//user:secret@"))
        with pytest.raises(UserError, match=r"cannot be fetched from the npm registry 127\.0\.0\.1: ") as told:
            find_runtime()
        assert "secret" not in str(told.value)
        monkeypatch.setenv("npm_config_registry", address)
        with pytest.raises(UserError, match="Not Found"):
            find_runtime()
    with pytest.raises(UserError, match="cannot be fetched"):  # the server has gone
        find_runtime()
    monkeypatch.setenv("npm_config_registry", "file:///etc")
    with pytest.raises(UserError, match="none of http or https"):
        find_runtime()


def test_the_registry_is_the_one_of_npm(pinned, monkeypatch):
    assert registry() == "https://registry.npmjs.org"
    (Path.home() / ".npmrc").write_text(
        "; registry=https://no.example\nfund=false\nregistry = https://a.example/npm/\n"
    )
    assert registry() == "https://a.example/npm"
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "https://b.example")
    assert registry() == "https://b.example"


def test_a_package_that_was_given(pinned, tmp_path):
    (tmp_path / "package.tgz").write_bytes(GOOD)
    assert find_runtime(tmp_path / "package.tgz").wasm == CONTENT[WASM]
    folder = tmp_path / "node_modules" / PACKAGE
    (folder / "dist").mkdir(parents=True)
    for name, data in CONTENT.items():
        (folder / "dist" / name).write_bytes(data)
    assert find_runtime(folder).script == CONTENT[SCRIPT]
    (folder / "dist" / SCRIPT).write_bytes(b"of another version")
    with pytest.raises(UserError, match=f"is not {PACKAGE} {VERSION}: {SCRIPT} in"):
        find_runtime(folder)
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(UserError, match=f"{SCRIPT} and {WASM}"):
        find_runtime(tmp_path / "text")
    with pytest.raises(UserError, match="cannot be read: No such file"):
        find_runtime(tmp_path / "none")


def test_its_script_becomes_one_without_imports(pinned):
    found = runtime.Runtime(CONTENT[SCRIPT], b"").classic_script
    assert found == "const a=1;self.ort = {b: a, default: a};\n"


@pytest.fixture
def quick(monkeypatch):
    """Pages with a decoder that nobody runs, so that nothing is exported or fetched."""
    monkeypatch.setattr(page, "find_runtime", lambda given: runtime.Runtime(CONTENT[SCRIPT], CONTENT[WASM]))
    monkeypatch.setattr(page, "decoder_file", lambda codec, latent: b"ONNX")


def test_what_a_browser_cannot_do_is_refused_before_anything_is_exported(quick, monkeypatch, tmp_path):
    monkeypatch.setattr(page, "decoder_file", lambda *_: pytest.fail("exported"))
    monkeypatch.setattr(decoder, "MOST_GIGAFLOP", 1e-4)
    with open_lab("conv") as lab, pytest.raises(UserError, match=r"computes 0 GFLOP for a picture of 16x16 pixels"):
        lab.export_html(tmp_path / "lab.html")
    assert not list(tmp_path.iterdir())


def test_a_page_that_would_be_too_large_is_refused(quick, monkeypatch, tmp_path):
    monkeypatch.setattr(page, "MOST_BYTES", 1000)
    with open_lab("conv") as lab, pytest.raises(UserError, match="with fewer images, now 12"):
        lab.export_html(tmp_path / "lab.html")
    assert not list(tmp_path.iterdir())


def test_the_gigaflop_are_those_of_its_convolutions():
    layers = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 3, 1))

    class Codec:
        def decode(self, z):
            return layers(z)

    expected = 2 * 16 * 16 * (4 * 8 * 9 + 8 * 3)  # a multiplication and an addition at each position
    assert decoder._gigaflop(Codec(), torch.zeros(4, 16, 16)) == pytest.approx(expected / 1e9)


def test_the_command_writes_beside_the_model(quick, tmp_path, capsys):
    folder = tmp_path / "model"
    tiny("conv").save_pretrained(folder)
    assert main(["lab", str(folder), "--max_images", "8"]) == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[-1] == str(folder / "lab.html")
    text = (folder / "lab.html").read_text("utf-8")
    assert text.count("</script>") == 5
    RunRecord(dataset="photographs").save(folder)
    assert main(["lab", str(folder), "--output", str(tmp_path / "other.html")]) == 2
    assert "was trained on photographs: name images" in capsys.readouterr().err
    assert not (tmp_path / "other.html").exists()


def test_a_page_answers_every_request_but_those_that_it_has_a_reason_for():
    own = {name.removeprefix("_do_") for name in vars(Panel) if name.startswith("_do_")}
    local = set(re.findall(r"^  do_(\w+)\(", frontend.source("local/kernel.js"), re.M))
    assert own - local == {"path", "bands", "palette", "piece", "seen"}  # a file comes whole, and no error is kept
    assert local <= own
    assert {"path", "bands"} <= {*ABSENT, *ABSENT_OF_BANDS}
    assert "codes" in ABSENT_OF_CODES


def test_a_card_links_the_space():
    card = str(model_card(tiny("conv"), {}, RunRecord(lab="user/lab")))
    assert "[its latent space](https://huggingface.co/spaces/user/lab)" in card
    assert "latent space](" not in str(model_card(tiny("conv"), {}, RunRecord(lab="no [id]")))
