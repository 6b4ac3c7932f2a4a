"""The formats of image files that are read, and the endings of their names."""

from __future__ import annotations

import warnings
from functools import cache

from PIL import Image

from .arrays import ARRAY_ENDINGS
from .rules import LATEST, DataRules

# By Pillow's names. HEIF is that of the optional package pillow-heif. What is not here is not opened, whatever the name
# of the file: Pillow reads some forty formats, old and rare ones in code that hardly anybody tests, and starts
# Ghostscript for an EPS.
USUAL = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF", "JPEG2000", "HEIF")
HEIC_ENDINGS = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
HEIC_EXTRA = "pip install pillow-heif"
STARTS_A_PROGRAM = ("EPS",)


def formats(rules: DataRules = LATEST) -> tuple[str, ...]:
    """Pillow's names of the formats that are read."""
    if rules.usual_formats:
        return usual_formats()
    Image.init()
    return tuple(name for name in Image.ID if name not in STARTS_A_PROGRAM)


def usual_formats() -> tuple[str, ...]:
    """Those of the usual formats that this installation has."""
    set_up_pillow()
    return tuple(name for name in USUAL if name in Image.OPEN)


@cache
def endings(rules: DataRules = LATEST) -> frozenset[str]:
    """The endings of file names that stand for these formats, in lower case, with the dot."""
    accepted = set(formats(rules)) if rules.usual_formats else set(Image.OPEN)  # in release 0.1 an EPS was a row
    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in accepted)


def array_endings(rules: DataRules = LATEST) -> frozenset[str]:
    """The endings of files of arrays, which count as images where there are no others: beside those they are not."""
    return ARRAY_ENDINGS if rules.keep_depth else frozenset()


def is_heic(head: bytes) -> bool:
    """Whether a file that begins like this is HEIC, the photographs of many telephones."""
    return head[4:8] == b"ftyp" and head[8:12] in HEIC_BRANDS


@cache
def set_up_pillow() -> None:
    """Have Pillow know all its formats, and warn of nothing."""
    # What Pillow warns of changes no image: metadata that are cut, palettes with alpha, and sizes below our own limit.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\b")
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    Image.init()
    try:
        import pillow_heif
    except ImportError:
        return
    pillow_heif.register_heif_opener()
