"""What is to be encoded: from files, folders, globs and URLs to jobs."""

import glob
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from hvqcodec.batch.work import Job, is_url
from hvqcodec.errors import FileError, notice
from hvqcodec.optional import require

SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pgm"),
    *(".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)
"""Of the files that are taken out of folders. What is named itself, or by a glob, is taken
whatever it is called."""

OWN_SUFFIXES = (".hvq", ".jsonl")
"""Of what an earlier batch may have left among the photos."""

Found = tuple[str, PurePosixPath]
"""A path or URL, and the path of its output below the output's folder, suffix and all."""


def find_jobs(names: Iterable[str]) -> list[Job]:
    """A job for each image, in a fixed order and none twice.

    An image of a folder or glob keeps its place below it. Images that differ in their suffix
    alone keep it: a.jpg.hvq and a.png.hvq. Raises FileError where nothing is found, and where
    two images would have the same output.
    """
    found: dict[str, PurePosixPath] = {}
    seen: set[str | Path] = set()
    for source, place in (pair for name in names for pair in expand(name)):
        identity = source if is_url(source) else Path(source).resolve()
        if identity not in seen:
            seen.add(identity)
            found[source] = place
    outputs = {source: place.with_suffix(".hvq") for source, place in found.items()}
    # Not every file system tells capitals from small letters.
    shared = Counter(str(output).casefold() for output in outputs.values())
    for source, place in found.items():
        if shared[str(outputs[source]).casefold()] > 1:
            outputs[source] = place.with_name(f"{place.name}.hvq")
    first: dict[PurePosixPath, str] = {}
    for source, output in outputs.items():
        if output in first:
            raise FileError(
                f"{first[output]} and {source} would both become {output}: give the folder "
                "that holds both, or encode them one after the other into two folders"
            )
        first[output] = source
    return [Job(source, str(output)) for source, output in outputs.items()]


def expand(name: str) -> Iterator[Found]:
    """The images that a path, folder, glob or URL stands for."""
    found = list(_expand_url(name) if is_url(name) else _expand_path(name))
    if not found:
        raise FileError(f"{name}: no image is found there")
    yield from found


def _expand_path(name: str) -> Iterator[Found]:
    path = Path(name)
    if path.is_dir():
        left_out = []
        for inside in sorted(p for p in path.rglob("*") if p.is_file()):
            if is_image(inside.name):
                yield str(inside), PurePosixPath(inside.relative_to(path).as_posix())
            elif not inside.name.startswith(".") and inside.suffix not in OWN_SUFFIXES:
                left_out.append(inside)
        report_left_out(name, left_out)
    elif path.exists() or not glob.has_magic(name):
        # What is not there fails in its turn, and does not stop the others.
        yield name, PurePosixPath(path.name)
    else:
        base = Path(fixed_part(path.as_posix()))
        for match in sorted(glob.glob(name, recursive=True)):
            if Path(match).is_file():
                yield match, PurePosixPath(Path(match).relative_to(base).as_posix())


def _expand_url(name: str) -> Iterator[Found]:
    fsspec = require("fsspec", "remote")
    try:
        system, path = fsspec.core.url_to_fs(name)
        if glob.has_magic(path):
            base, places = fixed_part(path), sorted(system.glob(path))
        elif system.isdir(path):
            base, places = path, [p for p in sorted(system.find(path)) if is_image(p)]
        else:
            base, places = path.rpartition("/")[0], [path]
    # Each kind of storage has errors of its own, and packages of its own that may be missing.
    except Exception as error:
        raise FileError(f"{name}: cannot be read ({' '.join(str(error).split())})") from error
    for place in places:
        below = PurePosixPath(place.removeprefix(base).lstrip("/"))
        yield str(system.unstrip_protocol(place)), below


def is_image(name: str) -> bool:
    """By its name; what begins with a dot is hidden, or what macOS keeps beside a photo."""
    path = PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def report_left_out(folder: str, files: Iterable[Path]) -> None:
    """Say which kinds of files of a folder are not taken."""
    kinds = Counter(path.suffix.lower() or "no suffix" for path in files)
    if kinds:
        listed = ", ".join(f"{kind} ({count})" for kind, count in sorted(kinds.items()))
        notice(f"{folder}: left out as no images: {listed}; what a glob names is taken")


def fixed_part(pattern: str) -> str:
    """The folders before the first that a glob leaves open."""
    parts = pattern.split("/")
    open_at = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return "/".join(parts[:open_at]) or ("/" if pattern.startswith("/") else ".")
