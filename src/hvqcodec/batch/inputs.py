"""What is to be encoded or decoded: from files, folders, globs and URLs to jobs."""

import glob
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from os import PathLike, fspath
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from hvqcodec.batch.work import HVQ, Job, is_url
from hvqcodec.errors import FileError, notice
from hvqcodec.optional import require


class Kind(NamedTuple):
    """Of files that are taken out of folders. What is named itself, or by a glob, is taken
    whatever it is called."""

    name: str
    suffixes: tuple[str, ...]
    beside: tuple[str, ...]
    """What a batch has left there, of which nothing is said."""

    def has(self, path: Path | PurePosixPath) -> bool:
        """By its name."""
        return path.suffix.lower() in self.suffixes


IMAGE = Kind(
    "image",
    (
        *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pgm"),
        *(".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
    ),
    (HVQ, ".jsonl"),
)

Found = tuple[str, PurePosixPath]
"""A path or URL, and the path of its output below the output's folder, suffix and all."""


def find_jobs(names: Iterable[str | PathLike[str]], suffix: str = HVQ) -> list[Job]:
    """A job for each image, or with the suffix of an image for each `.hvq` file, in a fixed order
    and none twice. suffix: of the outputs.

    An image of a folder or glob keeps its place below it. Images that differ in their suffix
    alone keep it: a.jpg.hvq and a.png.hvq. Raises FileError where nothing is found, and where
    two images would have the same output.
    """
    if isinstance(names, str):
        raise TypeError("names: give a list of them, not one str")
    found: dict[str, PurePosixPath] = {}
    seen: set[object] = set()
    kind = IMAGE if suffix == HVQ else Kind(".hvq file", (HVQ,), (suffix, ".jsonl"))
    for source, place in (pair for name in names for pair in expand(fspath(name), kind)):
        # A link to a photo beside it is another photo, with an output of its own.
        path = source if is_url(source) else os.path.abspath(source)
        file = source if is_url(source) else os.path.realpath(source)
        if not seen & {path, (file, place)}:
            found[source] = place
        seen |= {path, (file, place)}
    outputs = {source: place.with_suffix(suffix) for source, place in found.items()}
    while True:  # a longer one may be what a.png.jpg has
        shared = Counter(map(plain, outputs.values()))
        sharing = [source for source in found if shared[plain(outputs[source])] > 1]
        longer = {s: found[s].with_name(f"{found[s].name}{suffix}") for s in sharing}
        if longer.items() <= outputs.items():
            break
        outputs |= longer
    first: dict[str, str] = {}
    for source, output in outputs.items():
        other = first.setdefault(plain(output), source)
        if other != source:
            raise FileError(
                f"{other} and {source} would both become {output}: give the folder "
                "that holds both, or take them one after the other into two folders"
            )
    return [Job(source, str(output)) for source, output in outputs.items()]


def plain(output: PurePosixPath) -> str:
    """As file systems see it that tell neither capitals from small letters nor an accent from
    one that is composed."""
    return unicodedata.normalize("NFC", str(output)).casefold()


def expand(name: str, kind: Kind) -> Iterator[Found]:
    """What a path, folder, glob or URL stands for."""
    found = list(_expand_url(name, kind) if is_url(name) else _expand_path(name, kind))
    if not found:
        raise FileError(f"{name}: no {kind.name} is found there")
    yield from found


def _expand_path(name: str, kind: Kind) -> Iterator[Found]:
    path = Path(name)
    if not name or "\0" in name:
        raise FileError(f"{name!r} is the name of no file")
    if os.path.isdir(path):
        left_out = []
        for inside in sorted(path.rglob("*")):
            place = PurePosixPath(inside.relative_to(path).as_posix())
            if is_hidden(place):
                continue
            # Those of os.path say no of what is not to be looked at, which fails in its turn.
            if inside.is_symlink() and os.path.isdir(inside):
                notice(f"{inside} is a link to a folder, which is not followed: name it itself")
            # A link to nothing fails in its turn.
            elif kind.has(place) and (os.path.isfile(inside) or inside.is_symlink()):
                yield str(inside), place
            elif os.path.isfile(inside) and inside.suffix not in kind.beside:
                left_out.append(inside)
        report_left_out(name, left_out, kind)
    elif os.path.exists(path) or not glob.has_magic(name):
        # What is not there fails in its turn, and does not stop the others.
        yield name, PurePosixPath(path.name)
    else:
        base = Path(fixed_part(path.as_posix()))
        for match in sorted(glob.glob(name, recursive=True)):
            if Path(match).is_file():
                place = PurePosixPath(Path(match).relative_to(base).as_posix())
                yield match, PurePosixPath(place.name) if leads_out(place) else place


def _expand_url(name: str, kind: Kind) -> Iterator[Found]:
    fsspec = require("fsspec", "remote")
    try:
        system, path = fsspec.core.url_to_fs(name)
        base, places = path, [path]
        if glob.has_magic(path):
            base, places = fixed_part(path), sorted(system.glob(path))
        elif system.isdir(path):
            places = sorted(system.find(path))
    # Each kind of storage has errors of its own, and packages of its own that may be missing.
    except Exception as error:
        raise FileError(f"{name}: cannot be read ({' '.join(str(error).split())})") from error
    for place in places:
        below = PurePosixPath(place.removeprefix(base).lstrip("/"))
        if place == path:
            yield name, PurePosixPath(PurePosixPath(path).name)
        elif leads_out(below):  # what a server lists is not to be believed
            notice(f"{place}: left out, since its output would lie elsewhere")
        elif glob.has_magic(path) or (kind.has(below) and not is_hidden(below)):
            yield url_of(name, place, system), below


def url_of(name: str, place: str, system: Any) -> str:
    """Of a place in the storage that a URL names, of which parts may be chained by `::`."""
    first, chained, rest = name.partition("::")
    if not chained:
        return str(system.unstrip_protocol(place))
    kind, _, own = first.partition("://")
    if own:  # in an archive
        return f"{kind}://{place.lstrip('/')}::{rest}"
    return f"{kind}::{rest.partition('://')[0]}://{place}"  # through a cache


def leads_out(below: PurePosixPath) -> bool:
    """Whether a path from elsewhere, put behind that of a folder, names what lies outside."""
    return ".." in below.parts or (os.name == "nt" and any(c in str(below) for c in "\\:"))


def is_hidden(place: PurePosixPath) -> bool:
    """Below a folder: what begins with a dot, or lies in what does. So does what macOS keeps
    beside a photo."""
    return any(part.startswith(".") for part in place.parts)


def report_left_out(folder: str, files: Iterable[Path], kind: Kind) -> None:
    """Say what other kinds of files a folder has."""
    kinds = Counter(path.suffix.lower() or "no suffix" for path in files)
    if kinds:
        listed = ", ".join(f"{suffix} ({count})" for suffix, count in sorted(kinds.items()))
        notice(f"{folder}: left out as no {kind.name}s: {listed}; what a glob names is taken")


def fixed_part(pattern: str) -> str:
    """The folders before the first that a glob leaves open."""
    parts = pattern.split("/")
    open_at = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return "/".join(parts[:open_at]) or ("/" if pattern.startswith("/") else ".")
