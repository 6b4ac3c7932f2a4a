"""A page as a static Space, on the loopback Hub."""

from __future__ import annotations

import pytest
from PIL import Image

from support.tiny_diffusers import tiny
from vae_plugin.cli import main
from vae_plugin.errors import UserError
from vae_plugin.hub.front_matter import split
from vae_plugin.hub.push import write_card
from vae_plugin.hub.record import RunRecord
from vae_plugin.hub.space import push_page
from vae_plugin.widgets.page.runtime import Runtime

SPACE = "user/compare"


def files(hub):
    found = hub.repositories[f"spaces/{SPACE}"].resolve("main").files
    return {name: file.content.decode() for name, file in found.items() if name != ".gitattributes"}


def test_evaluate_publishes_its_page(connected, tmp_path, capsys):
    tiny("AutoencoderTiny").save_pretrained(tmp_path / "model")
    (tmp_path / "images").mkdir()
    for level in (0, 90, 200):
        Image.new("RGB", (16, 16), (level, 20, 255 - level)).save(tmp_path / "images" / f"{level}.png")
    page = tmp_path / "page.html"
    words = [str(tmp_path / "model"), "--data_dir", str(tmp_path / "images"), "--page", str(page)]
    assert main(["evaluate", *words, "--push_to_space", SPACE, "--private"]) == 0
    assert f"/spaces/{SPACE}" in capsys.readouterr().err
    found = files(connected)
    assert found["index.html"] == page.read_text("utf-8")
    assert split(found["README.md"])[0] == {"title": "model", "sdk": "static", "pinned": False}
    space = connected.repositories[f"spaces/{SPACE}"]
    assert (space.sdk, space.private) == ("static", True)


def test_the_lab_is_published_and_linked(connected, tmp_path, monkeypatch):
    monkeypatch.setattr("vae_plugin.widgets.page.find_runtime", lambda given: Runtime(b"export{a as b};", b"wasm"))
    monkeypatch.setattr("vae_plugin.widgets.page.decoder_file", lambda codec, latent: b"ONNX")
    folder = tmp_path / "model"
    tiny("AutoencoderTiny").save_pretrained(folder)
    RunRecord(dataset="generated circles").save(folder)
    write_card(folder)
    words = ["lab", str(folder), "--resolution", "16", "--max_images", "4", "--push_to_space", SPACE]
    assert main(words) == 0
    found = files(connected)
    assert found["index.html"] == (folder / "lab.html").read_text("utf-8")
    assert split(found["README.md"])[0]["title"] == "Latent Lab of model"
    assert RunRecord.load(folder).lab == SPACE
    assert f"/spaces/{SPACE})" in (folder / "README.md").read_text("utf-8")


def test_the_hub_is_told_of_the_models_of_a_page(connected):
    push_page("<p>", SPACE, title="A", models=["user/model"])
    assert split(files(connected)["README.md"])[0]["models"] == ["user/model"]


def test_a_space_keeps_its_own_readme(connected):
    push_page("<p>one", SPACE, title="A: B & {C}")
    own = "---\ntitle: A: B\nsdk: static\n---\nOwn words.\n"
    assert split(files(connected)["README.md"])[0]["title"] == "A: B & {C}"
    connected.repositories[f"spaces/{SPACE}"].commit({"README.md": own.encode()}, "Own words")
    push_page("<p>two", SPACE, title="Another")
    assert files(connected) == {"index.html": "<p>two", "README.md": own}


def test_a_space_that_runs_a_program_is_refused(connected):
    push_page("<p>", SPACE, title="A")
    connected.repositories[f"spaces/{SPACE}"].sdk = "gradio"
    with pytest.raises(UserError, match="runs gradio"):
        push_page("<p>changed", SPACE, title="A")
    assert files(connected)["index.html"] == "<p>"


def test_what_cannot_be_pushed_is_refused_before_anything_is_measured(connected, tmp_path, capsys, monkeypatch):
    words = ["evaluate", str(tmp_path / "none"), "--page", str(tmp_path / "page.html"), "--push_to_space"]
    assert main([*words, "no/such/name"]) == 2
    assert "cannot be a repository on the Hub" in capsys.readouterr().err
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("vae_plugin.hub.client.get_token", lambda: None)
    assert main([*words, SPACE]) == 2
    assert "there is no token" in capsys.readouterr().err
