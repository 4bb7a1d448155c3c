"""`hvq compare`, `hvq view` and `hvq demo`."""

import tempfile
from pathlib import Path

import click

from hvqcodec.cli.options import (
    decoding_model_option,
    device_option,
    encoding_model_option,
    load_codec,
    max_pixels_option,
    overwrite_option,
    perceptual_option,
    threads_option,
)
from hvqcodec.cli.terminal import progress_bar
from hvqcodec.errors import HvqError, in_file
from hvqcodec.facade import decompress
from hvqcodec.files import check_output, read_file, write_atomically
from hvqcodec.saving import to_file_bytes

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def parse_rates(ctx: click.Context, param: click.Parameter, value: str) -> list[float]:
    """As in 0.1,0.2,0.3."""
    try:
        return [float(rate) for rate in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value!r} is not numbers, as in 0.1,0.2,0.3") from None


@click.command()
@click.argument("photo", type=FILE)
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
    type=click.Path(dir_okay=False, path_type=Path),
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

    output = output or photo.with_suffix(".html")
    check_output(output, photo, overwrite)
    codec = load_codec(model, device, threads)
    with progress_bar("comparing") as progress:
        comparison = compare(
            photo,
            rates,
            codec,
            name=click.format_filename(photo.name),
            perceptual=perceptual,
            progress=progress,
        )
    write_atomically(output, to_html(comparison).encode(), overwrite)
    click.echo(click.format_filename(output))


@click.command()
@click.argument("file", type=FILE)
@decoding_model_option
@max_pixels_option
def view(file: Path, model: str | None, max_pixels: int) -> None:
    """Open a decoded copy of the .hvq FILE in the system's viewer."""
    data = read_file(file)
    with in_file(file), progress_bar("decoding") as progress:
        image = decompress(data, model=model, max_pixels=max_pixels, progress=progress)
    # Not removed: nobody knows when the viewer has read it.
    copy = Path(tempfile.mkdtemp(prefix="hvq-")) / f"{file.stem}.png"
    write_atomically(copy, to_file_bytes(image, copy.suffix))
    if click.launch(str(copy)):
        raise HvqError(f"no viewer could be started; the picture is {copy}")
    click.echo(click.format_filename(copy))


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
