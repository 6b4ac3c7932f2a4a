"""Where the image of a row is, and what of that may be opened: the data set's own files, and addresses if asked for."""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import fsspec
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.file_download import repo_folder_name

from .errors import DataError
from .paths import RefusedError, lies_under, local_path, regular_file, shown
from .webdataset import read_member

REMOTE = ("http", "https", "hf", "s3", "gs", "gcs", "abfs", "az")
ARCHIVES = ("zip", "tar")
OWN_HUB = "hf://"
ATTEMPTS = 3
WAIT = 1.0  # seconds before the second attempt, twice as many before the third
SILENCE = 20  # seconds without a byte, after which a web server is given up
MOST_SECONDS = 120  # for one image
FINAL = (ImportError, FileNotFoundError, PermissionError, KeyError, ValueError)


@dataclass(frozen=True)
class Places:
    """What the rows of a data set may name instead of holding an image.

    Attributes:
        roots: folders, and addresses on the Hub, under which a row's file must lie, symbolic links resolved. None: the
            names were listed on this machine, by this package or its caller, and are opened wherever they lead.
        addresses: whether web, Hub and cloud addresses are opened.
    """

    roots: tuple[str, ...] | None = None
    addresses: bool = False

    def find(self, name: str, most: int) -> str | bytes:
        """Path of a local file, or the bytes of a member of an archive or of an address.

        Args:
            name: what the row says: a path, a `file://` URL, an address, or a chain such as zip://a.png::b.zip.
            most: largest number of bytes that is read.

        Raises:
            RefusedError: if it may not be opened.
            DataError: if it cannot be read.
        """
        if self.roots is None and (encoded := read_member(name)) is not None:
            return encoded
        if "://" not in name:
            return self._local(name)
        *members, place = name.split("::")
        if not all(member.startswith(tuple(f"{kind}://" for kind in ARCHIVES)) for member in members):
            raise RefusedError(f"the row names {shown(name)}: of chains only members of zip and tar files are opened.")
        if (local := local_path(place)) is not None:
            path = self._local(local)
            if not members:
                return path
            place = "file://" + regular_file(path)
        elif not self._is_own(place):
            self._check_remote(place)
        return _read("::".join([*members, place]), most)

    def _local(self, name: str) -> str:
        if self.roots is None:
            return name
        inside = [root for root in self.roots if not root.startswith(OWN_HUB)]
        missing = False
        for candidate in [*(os.path.join(root, name) for root in inside), os.path.abspath(name)]:
            path = os.path.realpath(candidate)
            if any(lies_under(path, root) for root in inside):
                if os.path.exists(path):
                    return path
                missing = True
        if missing:
            raise DataError(f"the row names {shown(name)}, which does not exist.")
        raise RefusedError(
            f"the row names {shown(name)}, a file outside the data set's own folder, so it is not opened: give a data "
            "set that holds its images, or whose folder does."
        )

    def _is_own(self, place: str) -> bool:
        own = [root for root in self.roots or () if root.startswith(OWN_HUB)]
        return ".." not in place.split("/") and any(place.startswith((root + "/", root + "@")) for root in own)

    def _check_remote(self, place: str) -> None:
        protocol = place.partition("://")[0].lower()
        if protocol not in REMOTE:
            raise RefusedError(f"the row names {shown(place)}: {', '.join(REMOTE)} are the addresses that are opened.")
        if not self.addresses:
            raise RefusedError(
                f"the row names the address {shown(place)}, which is not opened unless asked for: give "
                "--remote_images (remote_images=True) if you trust the data set."
            )


def hub_roots(name: str, cache_dir: str | Path | None) -> tuple[str, ...]:
    """Where the files of a data set lie that `datasets` has loaded by its name.

    Args:
        name: its id on the Hub, or a local folder in the Hub's layout.
        cache_dir: see `load_images`.
    """
    import datasets

    # What an archive holds is extracted into a folder that the data sets share.
    downloads = (
        datasets.config.DOWNLOADED_DATASETS_PATH,
        *([os.path.join(cache_dir, "downloads")] if cache_dir else []),
    )
    if os.path.isdir(name):
        return (name, *map(str, downloads))
    cached = os.path.join(HF_HUB_CACHE, repo_folder_name(repo_id=name, repo_type="dataset"))
    return (f"{OWN_HUB}datasets/{name}", cached, *map(str, downloads))


def _read(address: str, most: int) -> bytes:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            encoded = _once(address, most + 1)
        except Exception as error:  # clients of the protocols raise what they like
            reason = " ".join(str(error).split()) or type(error).__name__
            if attempt == ATTEMPTS or not _may_pass(error):
                times = f" after {attempt} attempts" if attempt > 1 else ""
                raise DataError(f"{shown(address)} cannot be read{times}: {reason}") from error
            time.sleep(WAIT * attempt)
        else:
            if len(encoded) > most:
                raise DataError(f"{shown(address)} has more than {most} bytes, which no image within the limit has.")
            return encoded
    raise AssertionError("unreachable")


def _once(address: str, most: int) -> bytes:
    if not address.startswith(("http://", "https://")):
        with fsspec.open(address, "rb") as file:
            return file.read(most)
    # fsspec needs another package for these, whose threads do not outlive the fork of a loading process.
    request = urllib.request.Request(address, headers={"User-Agent": "vae-plugin"})
    end = time.monotonic() + MOST_SECONDS
    found = bytearray()
    with urllib.request.urlopen(request, timeout=SILENCE) as response:
        while len(found) < most and (part := response.read1(1 << 20)):
            found += part
            if time.monotonic() > end:
                raise TimeoutError(f"the server has not sent all of it in {MOST_SECONDS} seconds.")
    return bytes(found)


def _may_pass(error: Exception) -> bool:
    """Whether another attempt may succeed."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code >= 500 or error.code in (408, 429)
    return not isinstance(error, FINAL)
