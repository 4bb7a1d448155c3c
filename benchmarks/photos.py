"""Photos of folders and tar files, decoded once into memory."""

import io
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Photo = NDArray[np.uint8]
"""(H, W, 3) RGB."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")

MOVED = 2
"""Rows and columns without which distances are taken as well: a picture must not look right on the
grid of its codes alone."""


def read_photo(source: bytes | Path) -> Photo:
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
        return np.asarray(image.convert("RGB"))


def load_photos(paths: list[Path], limit: int | None = None) -> list[Photo]:
    """Photos of tar files and folders, in a fixed order."""
    sources: list[bytes | Path] = []
    for path in paths:
        if path.is_dir():
            sources += sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
        else:
            with tarfile.open(path) as tar:
                for member in sorted(tar.getmembers(), key=lambda m: m.name):
                    if member.name.lower().endswith(SUFFIXES):
                        file = tar.extractfile(member)
                        assert file is not None
                        sources.append(file.read())
    if not sources:
        raise SystemExit(f"no photos in {', '.join(map(str, paths))}")
    with ThreadPoolExecutor() as pool:
        return list(pool.map(read_photo, sources[:limit]))
