"""Options that several commands share, and what they make of them."""

import os
import sys
from collections.abc import Callable
from functools import wraps
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from hvqcodec.choices import DEFAULT_EFFORT, Choices, DecodingChoices, Effort
from hvqcodec.errors import FileError
from hvqcodec.files import SEPARATORS, read_file, write_atomically
from hvqcodec.limits import MAX_METADATA_BYTES, MAX_PIXELS
from hvqcodec.models import cards
from hvqcodec.rate import check_choices

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


class FilePath(click.Path):
    """Of a file, or `STREAM`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = super().convert(value, param, ctx)
        # A Path of ./- is one of -.
        return path.absolute() if path == STREAM and os.fspath(value) != "-" else path


class OutputPath(FilePath):
    """A Path no longer tells that its name ended like that of a folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and value.endswith(SEPARATORS):
            self.fail(f"{value} names a folder: give the name of a file", param, ctx)
        return super().convert(value, param, ctx)


INPUT = FilePath(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
INPUTS = FilePath(exists=True, allow_dash=True, path_type=Path)
"""A file or a folder of files."""
OUTPUT = OutputPath(dir_okay=False, allow_dash=True, path_type=Path)

device_option = click.option(
    "--device", default="cpu", show_default=True, help="Of the networks: cpu, cuda, cuda:1, ..."
)
threads_option = click.option(
    "--threads", type=click.IntRange(1, 1024), metavar="N", help="Of the processor; all without it."
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
max_metadata_bytes_option = click.option(
    "--max-metadata-bytes",
    type=click.IntRange(min=0),
    default=MAX_METADATA_BYTES,
    show_default=True,
    metavar="N",
    help="Refuse files with a larger piece of metadata.",
)
decoding_model_option = click.option(
    "--model",
    shell_complete=complete_model,
    help="Decode with this one instead of those inside the package.",
)
encoding_model_option = click.option(
    "--model",
    shell_complete=complete_model,
    default=cards.DEFAULT,
    show_default=True,
    help="Name, path of a .safetensors file, or hub:organisation/name[@revision].",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Report as JSON.")
perceptual_option = click.option(
    "--perceptual",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="With the networks of LPIPS (lpips_alex.safetensors) and DLP (tiny_darknet.safetensors).",
)

_HOW_TO_ENCODE = (
    click.option("-q", "--quality", type=float, help="0 to 100; 50 if nothing is said."),
    click.option(
        "--rate",
        "--bpp",
        type=float,
        metavar="BPP",
        help="Bits per pixel, met within 1 % or 16 bytes.",
    ),
    click.option("--max-bytes", type=int, metavar="N", help="Size of the file, never exceeded."),
    click.option(
        "--strict-rate",
        is_flag=True,
        help="Fail if the photo cannot use as many bits as --rate.",
    ),
    click.option(
        "--allocation",
        type=click.Choice(["rd", "entropy"]),
        default="rd",
        show_default=True,
        help="How blocks get their granularity; entropy is Control-GIC's way and takes --ratios.",
    ),
    click.option(
        "--ratios", callback=parse_ratios, metavar="F,M,C", help="Shares of fine, medium, coarse."
    ),
    click.option(
        "--effort",
        type=click.Choice(get_args(Effort)),
        default=DEFAULT_EFFORT,
        show_default=True,
        help="fast takes the codes that the analysis guesses; best looks for codes that look "
        "better once decoded, and refines the side information; max looks longer, and measures on "
        "trial decodings what each block gains; auto is best up to 4 megapixels, else fast.",
    ),
    click.option("--strip", is_flag=True, help="Drop metadata; turn upright and into sRGB."),
    encoding_model_option,
    tile_option,
    max_pixels_option,
)

_ENCODING_ALONE = {"rate", "allocation", *Choices.__annotations__}.difference(
    DecodingChoices.__annotations__
)
"""Of the options above those that say nothing of decoding."""


def encoding_choices(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that say how to encode; the command gets them as one dict, `choices`,
    that `Codec.compress` takes."""

    @wraps(command)
    def checked(**given: Any) -> None:
        allocation, choices = given.pop("allocation"), {"bpp": given.pop("rate")}
        choices |= {name: given.pop(name) for name in Choices.__annotations__ if name in given}
        if choices["strict_rate"] and choices["bpp"] is None:
            raise click.UsageError("--strict-rate goes with --rate")
        check_choices(*(choices[name] for name in ("quality", "bpp", "max_bytes", "ratios")))
        if (allocation == "entropy") != (choices["ratios"] is not None):
            raise click.UsageError("--allocation entropy and --ratios go together")
        command(choices=choices, **given)

    for option in reversed(_HOW_TO_ENCODE):
        checked = option(checked)
    return checked


def decoding_choices(
    model: str | None, choices: dict[str, Any]
) -> tuple[str | None, dict[str, Any]]:
    """Of a command with `encoding_choices` that is to decode: the model, if one is named, and the
    choices of `Codec.decompress`. Raises UsageError where others are named."""
    context = click.get_current_context()
    named = {
        parameter.name: parameter.opts[0]
        for parameter in context.command.params
        if parameter.name
        and context.get_parameter_source(parameter.name) is not ParameterSource.DEFAULT
    }
    if wrong := [named[name] for name in named if name in _ENCODING_ALONE]:
        raise click.UsageError(f"{', '.join(wrong)}: for encoding alone")
    kept = {name: choices[name] for name in DecodingChoices.__annotations__ if name in choices}
    return model if "model" in named else None, kept


def load_codec(model: str, device: str, threads: int | None) -> "Codec":
    import torch

    from hvqcodec.codec import Codec

    if threads:
        torch.set_num_threads(threads)
    return Codec.load(model, device=device)


def name_of(path: Path) -> str:
    return "standard input" if path == STREAM else str(path)


def source_of(path: Path) -> Path | BytesIO:
    """Of an image: its path, or what standard input holds."""
    return BytesIO(read(path)) if path == STREAM else path


def read(path: Path) -> bytes:
    if path != STREAM:
        return read_file(path)
    if sys.stdin is None:
        raise FileError("standard input is closed")
    return sys.stdin.buffer.read()


def write(path: Path, data: bytes, overwrite: bool) -> None:
    if path != STREAM:
        write_atomically(path, data, overwrite)
    elif sys.stdout is None:
        raise FileError("standard output is closed")
    else:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
