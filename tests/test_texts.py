"""Text files are read in every encoding that they name, and refused in one sentence otherwise."""

import json
import os

import pytest

from vae_plugin import files, texts
from vae_plugin.errors import UserError

WORDS = "---\r\nlicense: mit\r\n---\r\nGrüße, 你好 🙂\r\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_is_read_in_the_encoding_that_it_names_with_its_line_ends(tmp_path, encoding):
    path = tmp_path / "README.md"
    path.write_bytes(WORDS.encode(encoding))
    assert texts.read_text(path) == WORDS
    files.write_text(path, texts.read_text(path))
    assert path.read_bytes() == WORDS.encode()


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le", "utf-32-be", "shift_jis"])
def test_an_encoding_that_could_only_be_guessed_is_refused(tmp_path, encoding):
    path = tmp_path / "README.md"
    path.write_bytes(WORDS.replace("你好 🙂" if encoding == "cp1252" else "ü🙂ß", "").encode(encoding, "ignore"))
    with pytest.raises(UserError, match=r"README.md is not text in UTF-8.*save it as UTF-8"):
        texts.read_text(path)


@pytest.mark.parametrize(
    "content",
    ["", "{", "nope", "[" * 100_000, '{"a": NaN}', "-Infinity", "1" * 5000, '"\ud800'.encode("utf-8", "surrogatepass")],
)
def test_what_is_not_json_is_one_sentence_that_names_the_file(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=r"run\.json") as raised:
        texts.read_json(path)
    assert "\n" not in str(raised.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have no names here")
def test_a_pipe_is_refused_rather_than_waited_for(tmp_path):
    path = tmp_path / "config.json"
    os.mkfifo(path)
    with pytest.raises(UserError, match="is a pipe or a device"):
        texts.read_json(path)


def test_json_with_a_byte_order_mark_is_read(tmp_path):
    path = tmp_path / "run.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"a": 1}).encode())
    assert texts.read_json_object(path) == {"a": 1}
    path.write_text("[1]")
    with pytest.raises(UserError, match="does not hold a JSON object"):
        texts.read_json_object(path)


@pytest.mark.parametrize(
    "text",
    ["2024-13-45", "!!int ''", "!!float x", "!!timestamp x", "!!bool x", "[" * 5000, "? [a]\n: b", "1" * 5000,
     "!!python/object/apply:os.system ['true']", "{: broken", "*nothing", "\x01"],
)  # fmt: skip
def test_what_is_not_yaml_is_one_sentence(text):
    with pytest.raises(UserError, match="the options cannot be read") as raised:
        texts.parse_yaml(text, "the options")
    assert "\n" not in str(raised.value)
