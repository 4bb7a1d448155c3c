"""The command line: thin, and free of torch until something is coded."""

import json
import sys
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem, get_completion_class
from PIL import Image

from hvqcodec import __version__
from hvqcodec.bitstream import Bitstream
from hvqcodec.errors import ImageError, in_file
from hvqcodec.files import check_output, read_file, write_atomically
from hvqcodec.limits import MAX_METADATA_BYTES, MAX_PIXELS
from hvqcodec.models import cards
from hvqcodec.probing import Info, probe
from hvqcodec.saving import format_of, to_file_bytes
from hvqcodec.terminal import OneLine, progress_bar

if TYPE_CHECKING:
    from hvqcodec.codec import Codec

STREAM = Path("-")
"""Standard input or output."""


def complete_model(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of embedded models, else files."""
    names = [name for name in cards.list_models() if name.startswith(incomplete)]
    return [CompletionItem(name) for name in names] or [CompletionItem(incomplete, type="file")]


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


INPUT = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
OUTPUT = click.Path(dir_okay=False, allow_dash=True, path_type=Path)

device_option = click.option(
    "--device", default="cpu", show_default=True, help="Of the networks: cpu, cuda, cuda:1, ..."
)
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), metavar="N", help="Of the processor; all without it."
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace an existing output.")
tile_option = click.option(
    "--tile",
    type=click.IntRange(min=16),
    metavar="SIDE",
    help="Pixels of the squares in which the networks take the image; fewer need less memory.",
)
max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=MAX_PIXELS,
    show_default=True,
    metavar="N",
    help="Refuse larger images.",
)
decoding_model_option = click.option(
    "--model",
    shell_complete=complete_model,
    help="Where to find the model, if it is not inside the package.",
)


@click.group(
    cls=OneLine, no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="hvq")
def main() -> None:
    """Encode photos into small, good-looking .hvq files, and decode them.

    A file named - is standard input or output.
    """


@main.command()
@click.argument("photo", type=INPUT)
@click.option("-o", "--output", type=OUTPUT, help="Default: the photo's name with .hvq.")
@click.option("--quality", type=float, help="0 to 100; 50 if nothing is said.")
@click.option("--rate", type=float, metavar="BPP", help="Bits per pixel, met within 1 %.")
@click.option("--max-bytes", type=int, metavar="N", help="Size of the file, never exceeded.")
@click.option(
    "--strict-rate", is_flag=True, help="Fail if the photo cannot use as many bits as --rate."
)
@click.option(
    "--allocation",
    type=click.Choice(["rd", "entropy"]),
    default="rd",
    show_default=True,
    help="How blocks get their granularity; entropy is Control-GIC's way and takes --ratios.",
)
@click.option(
    "--ratios", callback=parse_ratios, metavar="F,M,C", help="Shares of fine, medium, coarse."
)
@click.option(
    "--effort",
    type=click.Choice(["fast", "best"]),
    default="fast",
    show_default=True,
    help="Predict, or measure on trial decodings, what each block gains.",
)
@click.option("--strip", is_flag=True, help="Drop metadata; turn upright and into sRGB.")
@click.option(
    "--model",
    shell_complete=complete_model,
    default=cards.DEFAULT,
    show_default=True,
    help="Name, path of a .safetensors file, or hub:organisation/name[@revision].",
)
@tile_option
@max_pixels_option
@device_option
@threads_option
@overwrite_option
@click.option("--json", "as_json", is_flag=True, help="Report as JSON.")
def encode(
    photo: Path,
    output: Path | None,
    rate: float | None,
    allocation: str,
    ratios: tuple[float, float, float] | None,
    model: str,
    device: str,
    threads: int | None,
    overwrite: bool,
    as_json: bool,
    **choices: Any,
) -> None:
    """Encode PHOTO into an .hvq file."""
    if choices["strict_rate"] and rate is None:
        raise click.UsageError("--strict-rate goes with --rate")
    if (allocation == "entropy") != (ratios is not None):
        raise click.UsageError("--allocation entropy and --ratios go together")
    output = output or (STREAM if photo == STREAM else photo.with_suffix(".hvq"))
    if output != STREAM:
        check_output(output, photo, overwrite)
    source = BytesIO(read(photo)) if photo == STREAM else photo
    Image.MAX_IMAGE_PIXELS = None  # --max-pixels is the limit, before any pixel is read
    codec = load_codec(model, device, threads)
    with progress_bar("encoding") as progress:
        data = codec.compress(source, bpp=rate, ratios=ratios, progress=progress, **choices)
    write(output, data)
    info = probe(data)
    line = f"{click.format_filename(output)}: {info.file_bytes} bytes, {info.bpp:.4f} bpp"
    report = {"output": str(output)} | asdict(info)
    click.echo(json.dumps(report) if as_json else line, err=output == STREAM)


@main.command()
@click.argument("file", type=INPUT)
@click.option(
    "-o",
    "--output",
    type=OUTPUT,
    help="Default: the file's name with .png. The suffix decides the format: PNG, JPEG, WebP, "
    "TIFF or PPM; - is PNG.",
)
@decoding_model_option
@tile_option
@max_pixels_option
@click.option(
    "--max-metadata-bytes",
    type=click.IntRange(min=0),
    default=MAX_METADATA_BYTES,
    show_default=True,
    metavar="N",
    help="Refuse files with a larger piece of metadata.",
)
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
    if output != STREAM:
        check_output(output, file, overwrite)
    data = read(file)
    with in_file(name_of(file)):
        fingerprint = Bitstream.from_bytes(data).fingerprint
        codec = load_codec(model or cards.model_for(fingerprint), device, threads)
        with progress_bar("decoding") as progress:
            image = codec.decompress(data, progress=progress, **choices)
    write(output, to_file_bytes(image, suffix))


@main.command()
@click.argument("file", type=INPUT)
@click.option("--verbose", is_flag=True, help="Where the bits go; loads the model.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON.")
@decoding_model_option
@max_pixels_option
def info(file: Path, verbose: bool, as_json: bool, model: str | None, max_pixels: int) -> None:
    """Say what an .hvq FILE holds."""
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
        note = "instead of index bits without hyperprior and context"
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


@main.group(no_args_is_help=False)
def models() -> None:
    """The models that are at hand."""


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="With their cards, as JSON.")
def models_list(as_json: bool) -> None:
    """Names of the models inside the package."""
    names = cards.list_models()
    if as_json:
        click.echo(json.dumps({name: json.loads(cards.card_text(name)) for name in names}))
        return
    for name in names:
        click.echo(name)


@models.command("info")
@click.argument("model", default=cards.DEFAULT, shell_complete=complete_model)
def models_info(model: str) -> None:
    """The card of MODEL, as JSON."""
    click.echo(cards.card_text(model), nl=False)


@models.command("path")
@click.argument("model", default=cards.DEFAULT, shell_complete=complete_model)
def models_path(model: str) -> None:
    """Where the weights of MODEL lie."""
    click.echo(cards.model_path(model))


@models.command("download")
@click.argument("model", metavar="hub:ORGANISATION/NAME[@REVISION]")
def models_download(model: str) -> None:
    """Fetch a MODEL from the Hub into the cache, and check it."""
    from hvqcodec.models.zoo import load_model

    load_model(model)
    click.echo(cards.model_path(model))


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a SHELL: eval "$(hvq completion bash)"."""
    script = get_completion_class(shell)
    assert script is not None
    click.echo(script(main, {}, "hvq", "_HVQ_COMPLETE").source())


def load_codec(model: str, device: str, threads: int | None) -> "Codec":
    import torch

    from hvqcodec.codec import Codec

    if threads:
        torch.set_num_threads(threads)
    return Codec.load(model, device=device)


def name_of(path: Path) -> str:
    return "standard input" if path == STREAM else str(path)


def read(path: Path) -> bytes:
    return sys.stdin.buffer.read() if path == STREAM else read_file(path)


def write(path: Path, data: bytes) -> None:
    if path == STREAM:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        write_atomically(path, data)
