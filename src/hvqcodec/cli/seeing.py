"""`hvq compare`, `hvq view` and `hvq demo`."""

import subprocess
import sys
import tempfile
from pathlib import Path

import click

from hvqcodec.cli.options import (
    INPUT,
    OUTPUT,
    STREAM,
    decoding_model_option,
    device_option,
    encoding_model_option,
    load_codec,
    max_pixels_option,
    name_of,
    overwrite_option,
    perceptual_option,
    read,
    source_of,
    threads_option,
    write,
)
from hvqcodec.cli.terminal import progress_bar
from hvqcodec.errors import HvqError, in_file
from hvqcodec.facade import decompress
from hvqcodec.files import check_output, write_atomically
from hvqcodec.saving import to_file_bytes


def parse_rates(ctx: click.Context, param: click.Parameter, value: str) -> list[float]:
    """As in 0.1,0.2,0.3."""
    try:
        return [float(rate) for rate in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value!r} is not numbers, as in 0.1,0.2,0.3") from None


@click.command()
@click.argument("photo", type=INPUT)
@click.option(
    "--rates",
    callback=parse_rates,
    default="0.1,0.2,0.3",
    show_default=True,
    help="Bits per pixel, with commas between.",
)
@click.option(
    "-o",
    "--output",
    type=OUTPUT,
    help="Default: the photo's name with .html.",
)
@perceptual_option
@encoding_model_option
@device_option
@threads_option
@overwrite_option
def compare(
    photo: Path,
    rates: list[float],
    output: Path | None,
    perceptual: Path | None,
    model: str,
    device: str,
    threads: int | None,
    overwrite: bool,
) -> None:
    """Show PHOTO beside what hvq, JPEG, WebP and AVIF make of it at equal bytes.

    Writes one page of HTML that needs nothing else.
    """
    from hvqcodec.report import compare, to_html

    output = output or (STREAM if photo == STREAM else photo.with_suffix(".html"))
    if output != STREAM:
        check_output(output, photo, overwrite)
    source = source_of(photo)
    codec = load_codec(model, device, threads)
    with progress_bar("comparing") as progress:
        comparison = compare(
            source,
            rates,
            codec,
            name=click.format_filename(photo.name if photo != STREAM else name_of(photo)),
            perceptual=perceptual,
            progress=progress,
        )
    write(output, to_html(comparison).encode(), overwrite)
    click.echo(click.format_filename(output), err=output == STREAM)


@click.command()
@click.argument("file", type=INPUT)
@decoding_model_option
@max_pixels_option
def view(file: Path, model: str | None, max_pixels: int) -> None:
    """Open a decoded copy of the .hvq FILE in the system's viewer."""
    data = read(file)
    with in_file(name_of(file)), progress_bar("decoding") as progress:
        image = decompress(data, model=model, max_pixels=max_pixels, progress=progress)
    # Not removed: nobody knows when the viewer has read it.
    stem = "decoded" if file == STREAM else file.stem
    copy = Path(tempfile.mkdtemp(prefix="hvq-")) / f"{stem}.png"
    write_atomically(copy, to_file_bytes(image, copy.suffix))
    if not is_opened(copy):
        raise HvqError(f"no viewer could be started; the picture is {copy}")
    click.echo(click.format_filename(copy))


def is_opened(picture: Path) -> bool:
    """Whether the system's viewer could be started."""
    if sys.platform != "linux":
        # It would stay until the viewer is closed, if one waited for it.
        return click.launch(str(picture)) == 0
    try:
        # It names all browsers that it has not found.
        done = subprocess.run(
            ["xdg-open", picture],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to serve at.")
@click.option("--port", type=click.IntRange(1, 65535), help="The first free one from 7860 on.")
@click.option("--browser/--no-browser", default=True, help="Open the page.")
@encoding_model_option
@device_option
@threads_option
def demo(
    host: str, port: int | None, browser: bool, model: str, device: str, threads: int | None
) -> None:
    """Serve a page to try the codec on photos (hvqcodec[demo])."""
    from hvqcodec.demo import launch

    launch(load_codec(model, device, threads), host, port, browser)
