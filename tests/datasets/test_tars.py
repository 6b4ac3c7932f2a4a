"""Tar files are read to their end: what is whole in a damaged one is found, what is not is said, streamed or not."""

import io
import random
import tarfile

import numpy as np
import pytest
from PIL import Image

from vae_plugin import notices
from vae_plugin.datasets import DataError, DataRules, load_images, stream_images
from vae_plugin.datasets.tars import BLOCK, Damage, Member, read_archive
from vae_plugin.datasets.transforms import to_uint8


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(notices, "_said", bytearray(1 << 16))


def encoded(number, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(file, kind)
    return file.getvalue()


def archive(members, form=tarfile.GNU_FORMAT):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def found_in(data):
    found = list(read_archive(io.BytesIO(data)))
    members = {m.name: data[m.offset : m.offset + m.size] for m in found if isinstance(m, Member)}
    return members, [d.reason for d in found if isinstance(d, Damage)]


def random_members(seed):
    rng = random.Random(seed)
    long = "folder/" * 30
    return {f"{long * rng.randint(0, 1)}{i:02d}.png": rng.randbytes(rng.randint(0, 1500)) for i in range(12)}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_whole_archive_has_what_tarfile_finds(form):
    members = random_members(0)
    if form == tarfile.USTAR_FORMAT:
        members = {name[-60:].lstrip("/"): content for name, content in members.items()}
    data = archive(members, form)
    assert found_in(data) == (members, [])
    more = {f"more-{name[-6:]}": content for name, content in members.items()}
    assert found_in(data + archive(more, form)) == (members | more, [])
    assert found_in(archive({})) == ({}, [])


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_header_loses_its_member_alone(seed):
    rng = random.Random(seed)
    members = {f"{i:02d}.png": rng.randbytes(rng.randint(1, 1500)) for i in range(12)}
    data = bytearray(archive(members))
    lost = rng.randrange(1, 12)
    with tarfile.open(fileobj=io.BytesIO(bytes(data))) as tar:
        header = tar.getmembers()[lost].offset
    data[header + 100 : header + 160] = rng.randbytes(60)  # mode to checksum
    found, reasons = found_in(bytes(data))
    assert found == {name: content for i, (name, content) in enumerate(members.items()) if i != lost}
    assert reasons == [f"the header at byte {header} is damaged"]


@pytest.mark.parametrize("seed", range(12))
def test_what_stands_before_a_cut_is_found(seed):
    members = random_members(seed)
    whole = archive(members)
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        ends = [(m.name, m.offset_data + m.size) for m in tar.getmembers()]
    cut = random.Random(seed).randrange(BLOCK, ends[-1][1])
    found, reasons = found_in(whole[:cut])
    assert found == {name: members[name] for name, end in ends if end <= cut}
    assert len(reasons) == 1
    assert str(cut) in reasons[0]


def test_any_bytes_end_without_another_error_and_without_a_hang():
    for seed in range(150):
        rng = random.Random(seed)
        data = bytearray(archive(random_members(seed), rng.choice([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])))
        for _ in range(rng.randint(1, 12)):
            at = rng.randrange(len(data))
            data[at : at + rng.randint(1, 200)] = rng.choice([rng.randbytes(rng.randint(1, 200)), b"\x80" * 12, b""])
        try:
            for found in read_archive(io.BytesIO(bytes(data))):
                assert isinstance(found, Damage) or 0 <= found.offset <= found.offset + found.size <= len(data)
        except tarfile.TarError:
            assert data[257:262] != b"ustar" or not any(data[:BLOCK])


def numbers(folder, streamed, count, **options):
    """What is read, once over."""
    options = {"resolution": 8, "channels": 3, **options}
    if streamed:
        images = stream_images(train_data_dir=folder, num_validation=count, **options).validation()
    else:
        images = load_images(train_data_dir=folder, **options)
    return [int(to_uint8(images[i]["pixel_values"])[0, 0, 0]) for i in range(len(images))]


@pytest.mark.parametrize("streamed", [False, True])
def test_mixed_endings_dots_and_hidden_files(tmp_path, streamed):
    members = {f"{i:02d}.{'jpg' if i < 6 else 'PNG'}": encoded(i, "JPEG" if i < 6 else "PNG") for i in range(9)}
    members |= {"photo9.v2.png": encoded(9), "._photo9.v2.png": b"macOS", "10.json": b"{}", "a.b/10.png": encoded(10)}
    (tmp_path / "a.tar").write_bytes(archive(members))
    assert numbers(tmp_path, streamed, 20) == list(range(11))
    assert numbers(tmp_path, streamed, 20, image_column="png") == [6, 7, 8, 10]
    with pytest.raises(DataError, match=r"'gif'.*give one of jpg, png, v2\.png"):
        numbers(tmp_path, streamed, 20, image_column="gif")


@pytest.mark.parametrize("streamed", [False, True])
def test_a_damaged_shard_is_named_once_and_what_is_whole_is_read(tmp_path, streamed, capfd):
    whole = archive({f"{i:02d}.png": encoded(i) for i in range(10)})
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        header = tar.getmembers()[4].offset
    (tmp_path / "a.TAR").write_bytes(whole[: header + 120] + b"\xff" * 40 + whole[header + 160 :])
    for _ in range(1 if streamed else 2):
        assert numbers(tmp_path, streamed, 20) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    said = capfd.readouterr().err
    assert said.count("a.TAR") == 1
    assert f"the header at byte {header} is damaged" in said


@pytest.mark.parametrize("streamed", [False, True])
def test_samples_with_several_images_are_refused_unless_one_is_chosen(tmp_path, streamed):
    pairs = {f"{i}.{part}.png": encoded(i + 100 * (part == "out")) for i in range(3) for part in ("in", "out")}
    (tmp_path / "a.tar").write_bytes(archive(pairs))
    with pytest.raises(DataError, match=r"in\.png, out\.png: choose one with image_column"):
        numbers(tmp_path, streamed, 20)
    assert numbers(tmp_path, streamed, 20, image_column="out.png") == [100, 101, 102]


def test_a_run_of_release_0_1_goes_on_with_what_that_release_found(tmp_path):
    whole = archive({f"{i:02d}.png": encoded(i) for i in range(10)})
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        header = tar.getmembers()[4].offset
    (tmp_path / "a.tar").write_bytes(whole[: header + 120] + b"\xff" * 40 + whole[header + 160 :])
    for streamed in (False, True):
        assert numbers(tmp_path, streamed, 20, rules=DataRules(1)) == [0, 1, 2, 3]
