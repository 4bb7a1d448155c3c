"""The command line: thin, and free of torch until something is coded."""

import os
import tempfile
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hvqcodec import __version__
from hvqcodec.bitstream import Bitstream, Section
from hvqcodec.errors import HvqError, RateError, UnknownFingerprintError
from hvqcodec.models import cards

if TYPE_CHECKING:
    from hvqcodec.codec import Codec

F = TypeVar("F", bound=Callable[..., Any])

INPUT = click.Path(exists=True, dir_okay=False, path_type=Path)
OUTPUT = click.Path(dir_okay=False, path_type=Path)


def parse_ratios(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[float, float, float] | None:
    """Three shares, as in 0.3,0.5,0.2."""
    if value is None:
        return None
    try:
        fine, medium, coarse = (float(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not three numbers, as in 0.3,0.5,0.2") from None
    return fine, medium, coarse


def one_line_errors(command: F) -> F:
    """A fault of the file is one line and status 1; a fault of the call is status 2."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except RateError as error:
            raise click.UsageError(str(error)) from error
        except HvqError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            name = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(f"{name}{error.strerror or error}") from error

    return run  # type: ignore[return-value]


def write_atomically(path: Path, data: bytes) -> None:
    """The destination is absent, the old file or the complete new one, at any moment."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~current_umask())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def current_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def refuse_overwrite(source: Path, output: Path, overwrite: bool) -> None:
    if output.exists() and (not overwrite or output.samefile(source)):
        hint = "is the input itself" if output.samefile(source) else "exists: pass --overwrite"
        raise click.ClickException(f"{output} {hint}")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hvq")
def main() -> None:
    """Encode photos into small, good-looking .hvq files, and decode them."""


@main.command()
@click.argument("photo", type=INPUT)
@click.option("-o", "--output", type=OUTPUT, help="Default: beside the photo, suffix .hvq.")
@click.option("--quality", type=float, help="0 to 100; 50 if nothing is said.")
@click.option("--rate", type=float, metavar="BPP", help="Bits per pixel, met within 1 %.")
@click.option("--max-bytes", type=int, help="Size of the file, never exceeded.")
@click.option(
    "--ratios", callback=parse_ratios, metavar="F,M,C", help="Shares of fine, medium, coarse."
)
@click.option("--model", default=cards.DEFAULT, help="Name, or path of a .safetensors file.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--overwrite", is_flag=True)
@one_line_errors
def encode(
    photo: Path,
    output: Path | None,
    quality: float | None,
    rate: float | None,
    max_bytes: int | None,
    ratios: tuple[float, float, float] | None,
    model: str,
    device: str,
    overwrite: bool,
) -> None:
    """Encode PHOTO into an .hvq file."""
    output = output or photo.with_suffix(".hvq")
    refuse_overwrite(photo, output, overwrite)
    codec = load_codec(model, device)
    data = codec.compress(photo, quality=quality, bpp=rate, max_bytes=max_bytes, ratios=ratios)
    write_atomically(output, data)
    stream = Bitstream.from_bytes(data)
    pixels = stream.width * stream.height
    click.echo(f"{output}: {len(data)} bytes, {8 * len(data) / pixels:.4f} bpp")


@main.command()
@click.argument("file", type=INPUT)
@click.option("-o", "--output", type=OUTPUT, help="Default: beside the file, suffix .png.")
@click.option("--model", help="Path of the .safetensors file, if the model is not embedded.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--overwrite", is_flag=True)
@one_line_errors
def decode(
    file: Path, output: Path | None, model: str | None, device: str, overwrite: bool
) -> None:
    """Decode the .hvq FILE into an image; its suffix decides the format."""
    output = output or file.with_suffix(".png")
    refuse_overwrite(file, output, overwrite)
    data = file.read_bytes()
    fingerprint = Bitstream.from_bytes(data).fingerprint
    codec = load_codec(model or cards.model_for(fingerprint), device)
    image = codec.decompress(data)
    write_atomically(output, image_bytes(image, output.suffix))


@main.command()
@click.argument("file", type=INPUT)
@click.option("--verbose", is_flag=True, help="Where the bits go; loads the model.")
@click.option("--model", help="Path of the .safetensors file, if the model is not embedded.")
@one_line_errors
def info(file: Path, verbose: bool, model: str | None) -> None:
    """Say what an .hvq FILE holds."""
    data = file.read_bytes()
    stream = Bitstream.from_bytes(data)
    try:
        name = cards.model_for(stream.fingerprint)
    except UnknownFingerprintError:
        name = "not embedded"
    click.echo(f"size         {stream.width} x {stream.height}, {stream.mode.name.lower()}")
    click.echo(f"bytes        {len(data)}, {8 * len(data) / stream.width / stream.height:.4f} bpp")
    click.echo(f"model        {stream.fingerprint.hex()} ({name})")
    for kind, body in stream.sections.items():
        known = kind in tuple(Section)
        title = Section(kind).name.lower().replace("_", " ") if known else f"section {kind}"
        click.echo(f"{title:<12} {len(body)} bytes")
    if verbose:
        codec = load_codec(model or cards.model_for(stream.fingerprint), "cpu")
        for part, amount in codec.inspect(data).items():
            click.echo(f"{part:<16} {amount:.0f}")


@main.group()
def models() -> None:
    """The models that are at hand."""


@models.command("list")
def models_list() -> None:
    """Names of the models inside the package."""
    for name in cards.list_models():
        click.echo(name)


@models.command("info")
@click.argument("model", default=cards.DEFAULT)
@one_line_errors
def models_info(model: str) -> None:
    """The card of MODEL, as JSON."""
    click.echo(cards.model_path(model).with_suffix(".json").read_text(), nl=False)


@models.command("path")
@click.argument("model", default=cards.DEFAULT)
@one_line_errors
def models_path(model: str) -> None:
    """Where the weights of MODEL lie."""
    click.echo(cards.model_path(model))


@models.command("download")
@click.argument("model", metavar="hub:ORGANISATION/NAME[@REVISION]")
@one_line_errors
def models_download(model: str) -> None:
    """Fetch a MODEL from the Hub into the cache, and check it."""
    from hvqcodec.models.zoo import load_model

    load_model(model)
    click.echo(cards.model_path(model))


def load_codec(model: str, device: str) -> "Codec":
    from hvqcodec.codec import Codec

    return Codec.load(model, device=device)


def image_bytes(image: Any, suffix: str) -> bytes:
    import io

    from PIL import Image

    image_format = Image.registered_extensions().get(suffix.lower())
    if image_format not in Image.SAVE:
        raise click.UsageError(f"unknown image suffix {suffix!r}: try .png")
    buffer = io.BytesIO()
    if image_format == "JPEG":
        image = image.convert("L" if image.mode in ("L", "LA") else "RGB")
    image.save(buffer, image_format)
    return buffer.getvalue()
