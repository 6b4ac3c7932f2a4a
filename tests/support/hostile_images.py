"""Image files in every format that is read, and damaged ones made of them by a seed."""

from __future__ import annotations

import functools
import io
import struct
import zlib

import numpy as np
from PIL import Image, features

ORIENTED = 6  # shown after a quarter turn clockwise
# The primaries as columns, XYZ adapted to D50.
DISPLAY_P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])


def profile(space: bytes, tags: list[tuple[bytes, bytes]], kind: bytes = b"mntr") -> bytes:
    """An ICC profile of a colour space, from its tags."""
    table, body, start = b"", b"", 132 + 12 * len(tags)
    for name, data in tags:
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"lcms", 0x02400000, kind, space, b"XYZ ")
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _fixed(0.9642, 1, 0.8249) + bytes(48)
    return head + struct.pack(">I", len(tags)) + table + body


def _fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IHH", 1, round(gamma * 256), 0)


def rgb_profile(primaries: np.ndarray, gamma: float = 2.2) -> bytes:
    """A profile of RGB whose primaries, the columns of a 3 x 3 matrix, are XYZ adapted to D50."""
    columns = zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries.T, strict=True)
    tags = [(name, b"XYZ \0\0\0\0" + _fixed(*column)) for name, column in columns]
    tags += [(b"wtpt", b"XYZ \0\0\0\0" + _fixed(0.9642, 1, 0.8249))]
    return profile(b"RGB ", tags + [(name, _curve(gamma)) for name in (b"rTRC", b"gTRC", b"bTRC")])


def gray_profile(gamma: float) -> bytes:
    """A profile of gray."""
    return profile(b"GRAY", [(b"wtpt", b"XYZ \0\0\0\0" + _fixed(0.9642, 1, 0.8249)), (b"kTRC", _curve(gamma))])


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    """The bytes of a file."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def picture(mode: str = "RGB", size: tuple[int, int] = (20, 14), seed: int = 0) -> Image.Image:
    """Coarse noise in a mode."""
    rng = np.random.default_rng(seed)
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 65536, size[::-1], dtype=np.uint16))
    if mode == "LAB":
        return Image.frombytes("LAB", size, rng.bytes(3 * size[0] * size[1]))
    pixels = rng.integers(0, 256, (size[1] // 2, size[0] // 2, 4), dtype=np.uint8).repeat(2, 0).repeat(2, 1)
    return Image.fromarray(pixels).convert(mode)


def png_of_size(width: int, height: int) -> bytes:
    """The 70 bytes or so of a PNG that claims a size."""
    data = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    for kind, chunk in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b"")):
        data += struct.pack(">I", len(chunk)) + kind + chunk + struct.pack(">I", zlib.crc32(kind + chunk))
    return data


def exif(*entries: tuple[int, int, int, bytes]) -> bytes:
    """An EXIF block with these entries: tag, type, count, value of four bytes."""
    tiff = b"II*\0" + struct.pack("<IH", 8, len(entries))
    tiff += b"".join(struct.pack("<HHI4s", *entry) for entry in entries) + struct.pack("<I", 0)
    return b"Exif\0\0" + tiff


TURNED = (0x0112, 3, 1, struct.pack("<HH", ORIENTED, 0))
EXIF_BLOCKS = {
    "an orientation": exif(TURNED),
    "a width as text": exif((0x0100, 2, 4, b"abc\0"), TURNED),
    "a count beyond the end": exif((0x010E, 2, 1 << 30, b"\xff" * 4), TURNED),
    "an unknown type": exif((0x010E, 99, 4, bytes(4)), TURNED),
    "a fraction by zero": exif((0x011A, 5, 1, struct.pack("<I", 4)), TURNED),
    "itself as a sub-directory": exif((0x8769, 4, 1, struct.pack("<I", 8)), TURNED),
    "no directory": b"Exif\0\0" + b"II*\0" + b"\xff" * 4,
    "no TIFF": b"Exif\0\0" + bytes(12),
    "nothing": b"Exif\0\0",
}
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


@functools.cache
def seeds() -> dict[str, bytes]:
    """Whole files: every format, their modes, and what may be embedded in them."""
    p3 = rgb_profile(DISPLAY_P3)
    found = {}
    for mode in ("RGB", "L", "CMYK"):
        found[f"jpeg {mode}"] = encoded(picture(mode), "JPEG", exif=EXIF_BLOCKS["an orientation"], xmp=XMP)
    found["jpeg progressive"] = encoded(picture(), "JPEG", progressive=True, icc_profile=p3, comment=b"c" * 40)
    for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"):
        found[f"png {mode}"] = encoded(picture(mode), "PNG", icc_profile=gray_profile(1.8) if mode == "L" else p3)
    found["png transparent"] = encoded(picture("L"), "PNG", transparency=7, exif=EXIF_BLOCKS["an orientation"])
    found["png transparent 16"] = encoded(picture("I;16"), "PNG", transparency=7)
    found["webp"] = encoded(picture(), "WEBP", exif=EXIF_BLOCKS["an orientation"], icc_profile=p3, xmp=XMP)
    found["webp lossless"] = encoded(picture("RGBA"), "WEBP", lossless=True)
    for mode in ("RGB", "RGBA", "L", "P", "1", "I;16", "CMYK", "LAB"):
        found[f"tiff {mode}"] = encoded(picture(mode), "TIFF", tiffinfo={274: ORIENTED})
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        found[f"tiff {compression}"] = encoded(picture(), "TIFF", compression=compression, icc_profile=p3)
    for mode in ("RGB", "L", "P", "1"):
        found[f"bmp {mode}"] = encoded(picture(mode), "BMP")
    found["gif"] = encoded(picture("P"), "GIF", save_all=True, append_images=[picture("P", seed=1)], transparency=3)
    for mode in ("RGB", "L", "1", "I;16"):
        found[f"pnm {mode}"] = encoded(picture(mode), "PPM")
    found["pnm plain"] = b"P3 # a comment\n2 2\n255\n" + b"1 2 3 " * 4
    found["pfm"] = b"Pf\n2 2\n-1.0\n" + bytes(16)
    found["jpeg 2000"] = encoded(picture(), "JPEG2000")
    if features.check("avif"):
        found["avif"] = encoded(picture(), "AVIF", exif=EXIF_BLOCKS["an orientation"], icc_profile=p3)
    return found


NUMBERS = [
    struct.pack(order + kind, value)
    for order in "<>"
    for kind, value in (
        ("I", 0),
        ("I", 1),
        ("I", 0x7FFFFFFF),
        ("I", 0xFFFFFFFF),
        ("I", 70_000),
        ("H", 0),
        ("H", 0xFFFF),
    )
]


def damage(rng: np.random.Generator) -> bytes:
    """A file with one to three faults: bits turned, ends cut, numbers made extreme, parts of other files put in."""
    files = list(seeds().values())
    data = bytearray(files[rng.integers(len(files))])
    for _ in range(rng.integers(1, 4)):
        # Most of what decides about a file stands at its beginning.
        at = int(rng.integers(len(data) + 1) if rng.random() < 0.5 else rng.integers(min(len(data), 200) + 1))
        other = files[rng.integers(len(files))]
        part = int(rng.integers(1, 64))
        fault = rng.integers(8)
        if fault == 0:
            data[at : at + 1] = bytes([data[at] ^ 1 << int(rng.integers(8))]) if at < len(data) else b""
        elif fault == 1:
            data = data[:at]
        elif fault == 2:
            number = NUMBERS[rng.integers(len(NUMBERS))]
            data[at : at + len(number)] = number
        elif fault == 3:
            data[: min(part, len(other))] = other[:part]
        elif fault == 4:
            begin = int(rng.integers(len(other)))
            data[at : at + part] = other[begin : begin + part]
        elif fault == 5:
            data[at:at] = data[max(0, at - part) : at]
        elif fault == 6:
            del data[at : at + part]
        else:
            data[at : at + part] = rng.bytes(part)
    return bytes(data)
