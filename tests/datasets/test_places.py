"""What the rows of a data set may name: its own files, and addresses if asked for. Nothing else is opened."""

from __future__ import annotations

import http.server
import os
import sys
import threading
from collections import Counter
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.hostile_images import encoded, picture
from vae_plugin import notices
from vae_plugin.datasets import DataError, load_images, stream_images
from vae_plugin.datasets import places as module
from vae_plugin.datasets.framing import Framing
from vae_plugin.datasets.paths import RefusedError, as_row
from vae_plugin.datasets.places import Places
from vae_plugin.datasets.reading import ImageReader

GOOD, SECRET = encoded(picture(seed=1), "PNG"), encoded(picture(seed=2), "PNG")
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(notices, "_said", bytearray(1 << 16))


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """A data set's folder beside a private one, with links between them; the working directory is a third."""
    for name in ("data/inner", "data-private", "here"):
        (tmp_path / name).mkdir(parents=True)
    for path in ("data/a b.png", "data/inner/é.png", "data/c%20d.png", "data/c d.png", "data/100%.png"):
        (tmp_path / path).write_bytes(GOOD)
    for path in ("data-private/secret.png", "here/secret.png"):
        (tmp_path / path).write_bytes(SECRET)
    (tmp_path / "data" / "link.png").symlink_to(tmp_path / "data-private" / "secret.png")
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "data-private")
    with ZipFile(tmp_path / "data" / "all.zip", "w") as archive:
        archive.writestr("x/y.png", GOOD)
    with ZipFile(tmp_path / "data-private" / "all.zip", "w") as archive:
        archive.writestr("x/y.png", SECRET)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "data"


def found(name, places):
    place = places.find(name, 10**6)
    return place if isinstance(place, bytes) else Path(place).read_bytes()


@pytest.mark.parametrize(
    "name",
    [
        "a b.png",
        "./a b.png",
        "inner/../a b.png",
        "inner/é.png",
        "{root}/inner/é.png",
        "../data/a b.png",  # from the working directory, as release 0.1 took it
        "file://{root}/a%20b.png",
        "file://localhost{root}/inner/%C3%A9.png",
        "file://{root}/c%2520d.png",
        "FILE://{root}/a b.png",
        "zip://x/y.png::{root}/all.zip",
        "zip://x/y.png::all.zip",
        "zip://x/y.png::file://{root}/all.zip",
    ],
)
def test_what_lies_in_the_data_sets_folder_is_read(data, name):
    for addresses in (False, True):
        assert found(name.format(root=data), Places((str(data),), addresses)) == GOOD


REFUSED = [
    "{root}-private/secret.png",
    "../data-private/secret.png",
    "inner/../../data-private/secret.png",
    "{root}/../data-private/secret.png",
    "secret.png",  # in the working directory
    "{here}/secret.png",
    "link.png",
    "{root}/link.png",
    "linked/secret.png",
    "file://{root}-private/secret.png",
    "file://{root}/../data-private/secret.png",
    "file://{root}/%2e%2e/data-private/secret.png",
    "file:///{root}/link.png",
    "file://elsewhere{root}/a%20b.png",
    "zip://x/y.png::{root}-private/all.zip",
    "zip://x/y.png::file://{root}-private/all.zip",
    "zip://x/y.png::{root}/linked/all.zip",
    "local://{root}-private/secret.png",
    "memory://secret.png",
    "dir://secret.png::file://{root}-private",
    "simplecache::file://{root}-private/secret.png",
    "filecache::file://{root}/a b.png",
    "blockcache::{root}-private/secret.png",
    "reference://secret.png::{root}/all.zip",
    "ftp://127.0.0.1:1/x.png",
    "sftp://127.0.0.1:1/x.png",
    "smb://127.0.0.1:1/x/x.png",
    "data:image/png;base64,AAAA",
    "github://owner:repo@main/x.png",
    "python://os",
    "{root}-private/all.tar::0::100::x.png",  # as a reference into a tar file looks
]
ADDRESSES = [
    "http://127.0.0.1:1/x.png",
    "HTTPS://127.0.0.1:1/x.png",
    "s3://bucket/x.png",
    "gs://bucket/x.png",
    "hf://datasets/other/name/x.png",
    "zip://x.png::http://127.0.0.1:1/x.zip",
]


@pytest.fixture
def nothing_opened(monkeypatch):
    """Whatever would be opened, of the doors that there are."""
    opened = []
    monkeypatch.setattr("fsspec.open", lambda *arguments, **more: opened.append(arguments))
    monkeypatch.setattr("urllib.request.urlopen", lambda *arguments, **more: opened.append(arguments))
    yield
    assert not opened


@pytest.mark.usefixtures("nothing_opened")
@pytest.mark.parametrize("addresses", [False, True])
@pytest.mark.parametrize("name", REFUSED)
def test_what_lies_elsewhere_is_refused_and_not_opened(data, name, addresses):
    name = name.format(root=data, here=Path.cwd())
    with pytest.raises(DataError) as raised:
        found(name, Places((str(data),), addresses))
    assert isinstance(raised.value, RefusedError) or "does not exist" in str(raised.value)


_watched: list[str] | None = None


def _watch(event, arguments):
    if _watched is not None and event in ("open", "os.listdir", "os.scandir", "socket.connect", "socket.getaddrinfo"):
        _watched.append(f"{event} {arguments[0] if event != 'socket.connect' else arguments[1]}")


@pytest.fixture
def watched(monkeypatch):
    """Whatever Python opens or connects to meanwhile, by whichever library."""
    sys.addaudithook(_watch)  # which cannot be taken away again
    monkeypatch.setitem(globals(), "_watched", [])
    return _watched


def test_no_name_leads_out_of_the_data_sets_folder(data, watched):
    """Made of parts of paths, URLs and chains by a seed."""
    parts = [
        ".",
        "..",
        "/",
        "//",
        ":",
        "::",
        "://",
        "?",
        "#",
        "~",
        "$HOME",
        "%2e%2e",
        "%2F",
        "%00",
        "file",
        "FILE",
        "file://",
        "local://",
        "zip://",
        "tar://",
        "dir://",
        "hf://",
    ]
    parts += [
        "http://127.0.0.1:9/",
        "ftp://127.0.0.1:9/",
        "simplecache",
        "reference://",
        "memory://",
        "localhost",
        "secret.png",
    ]
    parts += ["link.png", "linked", "all.zip", "x/y.png", "a b.png", "data-private", "inner", "\0", "\n", ""]
    parts += [str(data), f"{data}-private", str(data.parent), str(Path.cwd())]
    rng = np.random.default_rng(0)
    reader = ImageReader(places=Places((str(data),)))
    good = reader.tensor(GOOD, 3)
    refused = []
    for _ in range(3000):
        chosen = rng.integers(len(parts), size=rng.integers(1, 7))
        name = "".join(parts[i] + "/" * (rng.random() < 0.4) for i in chosen)
        try:
            x = reader.tensor({"bytes": None, "path": name}, 3)
        except DataError as error:
            refused.append(str(error))
        else:
            assert x.equal(good), name
    assert 2000 < len(refused) < 2997
    assert not any("\n" in text for text in refused)
    opened = [line for line in watched if not line.endswith((".py", ".pyc"))]  # Pillow imports its plugins
    assert f"open {data}/a b.png" in opened
    assert [line for line in opened if not line.startswith(f"open {data}/") or "/../" in line] == []


@pytest.mark.usefixtures("nothing_opened")
@pytest.mark.parametrize("roots", [("/data",), None])
@pytest.mark.parametrize("name", ADDRESSES)
def test_addresses_are_not_opened_unless_asked_for(name, roots):
    with pytest.raises(RefusedError, match="--remote_images"):
        found(name, Places(roots))


def test_the_data_sets_own_files_on_the_hub_are_read(monkeypatch):
    class File:
        def __init__(self, address, mode):
            self.address = address

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def read(self, most):
            return self.address.encode()

    monkeypatch.setattr("fsspec.open", File)
    own = Places(("hf://datasets/owner/name",))
    for name in (
        "hf://datasets/owner/name/a.png",
        "hf://datasets/owner/name@abc/train/a.png",
        "zip://a.png::hf://datasets/owner/name@abc/images.zip",
    ):
        assert own.find(name, 100) == name.encode()
    for name in (
        "hf://datasets/owner/name-private/a.png",
        "hf://datasets/owner/name/../../other/name/a.png",
        "hf://datasets/owner/other@abc/a.png",
        "hf://owner/name/a.png",
    ):
        with pytest.raises(RefusedError):
            own.find(name, 100)


@pytest.fixture
def server(monkeypatch):
    """A web server whose paths say how it answers, and a count of its requests."""
    requests = Counter()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests[self.path] += 1
            status = {"/gone": 404, "/broken": 503, "/flaky": 503 if requests[self.path] < 3 else 200}.get(
                self.path, 200
            )
            self.send_response(status)
            self.send_header("Content-Length", str(len(GOOD)))
            self.end_headers()
            self.wfile.write(GOOD[:10] if self.path == "/cut" else GOOD)

        def log_message(self, *arguments):
            pass

    monkeypatch.setattr(module, "WAIT", 0.0)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", requests
        server.shutdown()


def test_addresses_are_read_with_retries_and_a_reason(server):
    address, requests = server
    asked = Places(("/data",), addresses=True)
    assert asked.find(f"{address}/good", len(GOOD)) == GOOD
    assert asked.find(f"{address}/flaky", len(GOOD)) == GOOD
    for path, times, reason in (("/gone", 1, "404"), ("/broken", 3, "after 3 attempts: .*503")):
        with pytest.raises(DataError, match=reason):
            asked.find(address + path, len(GOOD))
        assert requests[path] == times
    with pytest.raises(DataError, match="more than 99 bytes"):
        asked.find(f"{address}/good", 99)
    with pytest.raises(DataError, match="cannot be read"):
        ImageReader(places=asked).tensor({"path": f"{address}/cut"}, 3)


def test_a_package_that_is_missing_is_a_reason_and_not_tried_again(monkeypatch):
    tried = []

    def missing(address, mode):
        tried.append(address)
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.open", missing)
    with pytest.raises(DataError, match=r"s3://b/x\.png' cannot be read: Install s3fs"):
        Places((), addresses=True).find("s3://b/x.png", 100)
    assert len(tried) == 1


def write_rows(path, rows):
    pq.write_table(pa.table({"image": pa.array(rows, STRUCT)}), path)


def names_and_values(images):
    return [(images[i]["unreadable"], images[i]["pixel_values"]) for i in range(len(images))]


@pytest.mark.usefixtures("nothing_opened")
def test_refused_rows_are_named_and_left_out(data, capsys):
    rows = [{"bytes": GOOD, "path": "elsewhere.png"}, {"bytes": None, "path": "inner/é.png"}]
    rows += [{"bytes": None, "path": name.format(root=data, here=Path.cwd())} for name in REFUSED + ADDRESSES]
    write_rows(data / "rows.parquet", rows)
    for path in ("a b.png", "c d.png", "c%20d.png", "100%.png"):
        (data / path).unlink()
    images = load_images(train_data_dir=data / "rows.parquet", resolution=8, channels=3, cache_dir=data / "cache")
    good = ImageReader().tensor(GOOD, 3, Framing(8, center_crop=True).view)
    assert images[0]["unreadable"] == images[1]["unreadable"] == ()
    item = images[2]
    expected = []
    for i, row in enumerate(rows[2:], 2):
        with pytest.raises(DataError) as raised:
            images.reader.tensor(row, 3)
        refused = isinstance(raised.value, RefusedError)
        expected.append(f"row {i} of rows.parquet" if refused else row["path"])
    assert list(item["unreadable"]) == expected
    assert item["pixel_values"].equal(good)
    counted, said = capsys.readouterr().err.splitlines()
    looked_at = sum("::" not in row["path"] for row in rows)
    assert counted.startswith(f"note: 2 of {looked_at} images in {data / 'rows.parquet'} can be used; left out are ")
    assert "(it names a place that is not opened)" in counted
    assert said.startswith("note: ")
    assert "is left out, and so are others like it" in said


@pytest.mark.usefixtures("nothing_opened")
def test_a_stream_opens_no_other_place_either(data):
    """Nor does it, as `datasets` would, prefer a file of the working directory to the bytes that a row holds."""
    Path("a.png").write_bytes(SECRET)
    rows = [{"bytes": GOOD, "path": "a.png"}] * 6
    rows[3] = {"bytes": None, "path": str(data.parent / "data-private" / "secret.png")}
    write_rows(data / "rows.parquet", rows)
    good = ImageReader().tensor(GOOD, 3, Framing(8, center_crop=True).view)
    stream = stream_images(
        train_data_dir=data / "rows.parquet", resolution=8, channels=3, center_crop=True, num_validation=2
    )
    held_out = stream.validation()
    assert all(held_out[i]["pixel_values"].equal(good) for i in range(2))
    batch = next(iter(stream.batches(4)))
    assert batch["unreadable"] == [rows[3]["path"]]
    assert all(image.equal(good) for image in batch["pixel_values"])
    first = stream.first(4)
    assert all(first[i]["pixel_values"].equal(good) for i in range(4))


def test_names_that_are_not_utf_8_are_read(tmp_path):
    for name in (b"\xff\xfe.png", "é ü%20#?.png".encode(), b"plain.png"):
        (tmp_path / os.fsdecode(name)).write_bytes(GOOD)
    (tmp_path / "two\nlines.png").write_bytes(b"no image")
    images = load_images(train_data_dir=tmp_path, resolution=8, channels=3, center_crop=True)
    assert len(images) == 4
    assert images[1]["unreadable"] == (f"{tmp_path}/two\\nlines.png",)
    good = ImageReader().tensor(GOOD, 3, Framing(8, center_crop=True).view)
    for i in (0, 2, 3):
        assert images[i]["unreadable"] == ()
        assert images[i]["pixel_values"].equal(good)
    assert as_row(tmp_path / "plain.png") == str(tmp_path / "plain.png")
    as_row(tmp_path / os.fsdecode(b"\xff.png")).encode()
