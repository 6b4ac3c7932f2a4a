"""onnxruntime-web, which runs the decoder of a page: one version of its npm package, fetched once and kept.

No package of PyPI bundles it. The wheel of this package does not either: it is 14 MB that only pages need.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import re
import tarfile
import urllib.request
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

from huggingface_hub import cached_assets_path

from vae_plugin.distribution import NAME
from vae_plugin.errors import UserError
from vae_plugin.files import write_bytes
from vae_plugin.wording import shown

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # SHA-512
SCRIPT, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
FILES = {  # in its folder "dist", with their SHA-256
    SCRIPT: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    WASM: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
REGISTRY = "https://registry.npmjs.org"
SILENCE = 60  # seconds without a byte, after which a registry counts as out of reach
MOST_BYTES = 200_000_000
LICENSE = f"""{PACKAGE} {VERSION}

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."""


EXPORTS = re.compile(r"^(.*)export\{([^}]*)\};(.*)$", re.S)  # at the end of a module


@dataclass(frozen=True)
class Runtime:
    """The two files of the package that a page holds."""

    script: bytes
    wasm: bytes

    @property
    def classic_script(self) -> str:
        """The script as no module, with what it exports in `self.ort`: a worker of a local file cannot import."""
        matched = EXPORTS.match(self.script.decode())
        assert matched is not None  # of this version
        before, names, _ = matched.groups()
        pairs = (name.split(" as ") for name in names.split(","))
        # No file is looked up beside it, as the page gives the binary itself.
        before = before.replace("import.meta.url", '"http://nowhere.invalid/"')
        return f"{before}self.ort = {{{', '.join(f'{outer}: {inner}' for inner, outer in pairs)}}};\n"


def find_runtime(given: Path | None = None) -> Runtime:
    """The runtime: from a place that was given, from the cache, or from the npm registry, which fills the cache.

    Args:
        given: folder or tarball of the npm package, as `npm install` and `npm pack` make them.

    Raises:
        UserError: if it is not to be had, or not the version that this package was tested with.
    """
    if given is not None:
        return _checked(_from_folder(given) if given.is_dir() else _from_tarball(_read(given)), str(given))
    cache = cached_assets_path(NAME, PACKAGE, VERSION)
    if all((cache / name).exists() for name in FILES):
        kept = {name: (cache / name).read_bytes() for name in FILES}
        if not _wrong(kept):
            return Runtime(kept[SCRIPT], kept[WASM])
    tarball = _fetched()
    files = _from_tarball(tarball)
    runtime = _checked(files, "what was fetched")
    for name in FILES:
        write_bytes(cache / name, files[name])
    return runtime


def registry() -> str:
    """The address of the npm registry: of npm's environment variable, of the user's .npmrc, or the public one."""
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        if os.environ.get(name):
            return os.environ[name].rstrip("/")
    settings = Path(os.environ.get("NPM_CONFIG_USERCONFIG") or Path.home() / ".npmrc")
    try:
        found = re.findall(r"^\s*registry\s*=\s*[\"']?(\S+?)[\"']?\s*$", settings.read_text("utf-8"), re.M)
    except (OSError, UnicodeDecodeError):
        found = []
    return (found[-1] if found else REGISTRY).rstrip("/")


def _fetched() -> bytes:
    """The tarball from the registry, of which the SHA-512 is right."""
    place = registry()
    address = f"{place}/{PACKAGE}/-/{PACKAGE}-{VERSION}.tgz"
    host = urlsplit(place).hostname or place  # not what stands before it, which may be a password
    try:
        if not address.startswith(("http://", "https://")):
            raise ValueError("its address is none of http or https")
        with urllib.request.urlopen(
            urllib.request.Request(address, headers={"User-Agent": NAME}), timeout=SILENCE
        ) as response:
            data = response.read(MOST_BYTES)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UserError(
            f"{PACKAGE} {VERSION}, which decodes in the page, cannot be fetched from the npm registry {host}: "
            f"{getattr(error, 'reason', None) or error}. {_advice()}"
        ) from error
    if base64.b64encode(hashlib.sha512(data).digest()).decode() != INTEGRITY:
        raise UserError(
            f"what the npm registry {host} gives as {PACKAGE} {VERSION} has another SHA-512 than that package: nothing "
            f"was kept. {_advice()}"
        )
    return data


def _advice() -> str:
    return (
        f"Try again, or run `npm pack {PACKAGE}@{VERSION}` where there is a network and give its file as "
        "onnxruntime_web (--onnxruntime_web)."
    )


def _from_tarball(data: bytes) -> dict[str, bytes]:
    found = {}
    try:
        with tarfile.open(fileobj=BytesIO(data)) as archive:
            for name in FILES:
                file = archive.extractfile(f"package/dist/{name}")
                found[name] = b"" if file is None else file.read()
    except (tarfile.TarError, KeyError, EOFError, OSError):
        pass  # what is missing is told
    return found


def _from_folder(folder: Path) -> dict[str, bytes]:
    return {name: path.read_bytes() for name in FILES if (path := folder / "dist" / name).is_file()}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}. {_advice()}") from error


def _wrong(files: dict[str, bytes]) -> list[str]:
    """The names of files that are missing, or not those of this version."""
    return [name for name, digest in FILES.items() if hashlib.sha256(files.get(name, b"")).hexdigest() != digest]


def _checked(files: dict[str, bytes], place: str) -> Runtime:
    """The runtime in some files.

    Raises:
        UserError: if they are not those of this version.
    """
    if wrong := _wrong(files):
        raise UserError(
            f"{shown(place)} is not {PACKAGE} {VERSION}: {' and '.join(wrong)} in its folder dist differ or are "
            f"missing. {_advice()}"
        )
    return Runtime(files[SCRIPT], files[WASM])
