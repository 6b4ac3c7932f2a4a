"""Text files that people may have edited: read in any encoding that they name, or refused in one sentence."""

from __future__ import annotations

import codecs
import json
import stat
from pathlib import Path
from typing import Any

import yaml

from .errors import UserError

MARKS = (  # longest first: that of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: str | Path) -> str:
    """The text of a file in UTF-8, or in the encoding that its byte order mark names; line ends stay as they are.

    Raises:
        UserError: if it is in another encoding, which could only be guessed, or a pipe or device, whose end may never
            come.
        OSError: if it cannot be read.
    """
    mode = Path(path).stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # opening a folder says what it is
        raise UserError(f"{path} is a pipe or a device: put a file there.")
    return decode(Path(path).read_bytes(), str(path))


def decode(data: bytes, name: str) -> str:
    """The text of a file's content; `name` is for the error. See `read_text`."""
    encoding = next((encoding for mark, encoding in MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{name} is not text in {encoding.removesuffix('-sig').upper()} (see byte {error.start:,}): save it as "
            "UTF-8."
        ) from error
    if "\0" in text:
        raise UserError(f"{name} is not text in UTF-8, because it holds zero bytes: save it as UTF-8.")
    return text


def read_json(path: str | Path) -> Any:
    """The value in a JSON file. NaN and Infinity are refused, which JSON lacks.

    Raises:
        UserError: if the file is not valid JSON.
        OSError: if it cannot be read.
    """
    try:
        return json.loads(read_text(path), parse_constant=_no_constant)
    except RecursionError as error:
        raise UserError(f"{path} is nested too deeply: correct it, or remove it.") from error
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}. Correct it, or remove it.") from error


def read_json_object(path: str | Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        UserError: if the file holds anything else.
        OSError: if it cannot be read.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} does not hold a JSON object: correct it, or remove it.")
    return content


def parse_yaml(text: str, name: str) -> Any:
    """The value in a YAML document; `name` is for the error.

    Raises:
        UserError: if it is not valid YAML, or holds an impossible value such as a 13th month.
    """
    try:
        return yaml.safe_load(text)
    except RecursionError as error:
        raise UserError(f"{name} cannot be read: too deeply nested.") from error
    except Exception as error:  # PyYAML's constructors let through what int, float and datetime raise
        raise UserError(f"{name} cannot be read: {' '.join(str(error).split())}.") from error


def _no_constant(word: str) -> None:
    raise ValueError(f"it holds {word}")
