"""`hvq encode`, `hvq decode` and `hvq info`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from hvqcodec.bitstream import Bitstream
from hvqcodec.cli.options import (
    INPUT,
    OUTPUT,
    STREAM,
    decoding_model_option,
    device_option,
    encoding_choices,
    json_option,
    load_codec,
    max_metadata_bytes_option,
    max_pixels_option,
    name_of,
    overwrite_option,
    read,
    source_of,
    threads_option,
    tile_option,
    write,
)
from hvqcodec.cli.terminal import progress_bar
from hvqcodec.errors import ImageError, in_file, notice
from hvqcodec.files import check_output
from hvqcodec.models import cards
from hvqcodec.probing import Info, probe
from hvqcodec.saving import format_of, to_file_bytes


@click.command()
@click.argument("photo", type=INPUT)
@click.option("-o", "--output", type=OUTPUT, help="Default: the photo's name with .hvq.")
@encoding_choices
@click.option(
    "--importance",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="IMAGE",
    help="Of the same size: errors count where it is bright, and hardly where it is black.",
)
@device_option
@threads_option
@overwrite_option
@json_option
def encode(
    photo: Path,
    output: Path | None,
    choices: dict[str, Any],
    model: str,
    device: str,
    threads: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Encode PHOTO into an .hvq file."""
    if photo.suffix.lower() == ".hvq":
        raise click.UsageError(f"{click.format_filename(photo)} is encoded already")
    output = output or (STREAM if photo == STREAM else photo.with_suffix(".hvq"))
    if output != STREAM:
        check_output(output, photo, overwrite)
    source = source_of(photo)
    codec = load_codec(model, device, threads)
    with progress_bar("encoding") as progress:
        data = codec.compress(source, progress=progress, **choices)
    write(output, data, overwrite)
    if output.suffix.lower() not in ("", ".hvq"):
        notice(f"{output} is an .hvq file, whatever its name says")
    info = probe(data)
    line = f"{click.format_filename(output)}: {info.file_bytes} bytes, {info.bpp:.4f} bpp"
    report = {"output": str(output)} | asdict(info)
    click.echo(json.dumps(report) if as_json else line, err=output == STREAM)


@click.command()
@click.argument("file", type=INPUT)
@click.option(
    "-o",
    "--output",
    type=OUTPUT,
    help="Default: the file's name with .png. The suffix decides the format: PNG, JPEG, WebP, "
    "TIFF or PPM, JPEG and WebP at quality 95; - is PNG.",
)
@decoding_model_option
@tile_option
@max_pixels_option
@max_metadata_bytes_option
@device_option
@threads_option
@overwrite_option
def decode(
    file: Path,
    output: Path | None,
    model: str | None,
    device: str,
    threads: int | None,
    overwrite: bool,
    **choices: Any,
) -> None:
    """Decode the .hvq FILE into an image."""
    output = output or (STREAM if file == STREAM else file.with_suffix(".png"))
    suffix = ".png" if output == STREAM else output.suffix
    try:
        format_of(suffix)
    except ImageError as error:
        raise click.UsageError(str(error)) from None
    data = read(file)
    with in_file(name_of(file)):
        fingerprint = Bitstream.from_bytes(data).fingerprint
        if output != STREAM:
            check_output(output, file, overwrite)
        codec = load_codec(model or cards.model_for(fingerprint), device, threads)
        with progress_bar("decoding") as progress:
            image = codec.decompress(data, progress=progress, **choices)
    write(output, to_file_bytes(image, suffix), overwrite)


@click.command()
@click.argument("file", type=INPUT)
@click.option("--verbose", is_flag=True, help="Where the bits go; loads the model.")
@json_option
@decoding_model_option
@max_pixels_option
def info(file: Path, verbose: bool, as_json: bool, model: str | None, max_pixels: int) -> None:
    """Say what an .hvq FILE holds. --model and --max-pixels count with --verbose alone."""
    data, budget = read(file), {}
    with in_file(name_of(file)):
        facts = probe(data)
        if verbose:
            name = model or cards.model_for(bytes.fromhex(facts.fingerprint))
            budget = load_codec(name, "cpu", None).inspect(data, max_pixels=max_pixels)
    if as_json:
        click.echo(json.dumps(asdict(facts) | ({"budget": budget} if verbose else {})))
        return
    for line in describe(facts):
        click.echo(line)
    for part, amount in budget.items():
        share = amount / (1 if part.endswith("bytes") else 8) / facts.file_bytes
        note = "that the same indices take with static tables"
        note = note if part == "static_bits" else f"{share:6.1%} of the file"
        click.echo(f"{part.replace('_', ' '):<16} {amount:>9.0f}  {note}")


def describe(info: Info) -> list[str]:
    """Lines for people."""
    model = info.model or "not inside this package"
    return [
        f"size         {info.width} x {info.height}, {info.mode}",
        f"bytes        {info.file_bytes}, {info.bpp:.4f} bpp",
        f"format       version {info.version}",
        f"model        {info.fingerprint} ({model})",
        *(f"{name:<12} {size} bytes" for name, size in info.sections.items()),
    ]
