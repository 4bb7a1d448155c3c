"""The command line: thin, and free of torch until something is coded."""

import os

import click
from click.shell_completion import get_completion_class
from PIL import Image

from hvqcodec import __version__
from hvqcodec.cli import checking, coding, many, models, seeing
from hvqcodec.cli.terminal import OneLine


@click.group(
    cls=OneLine, no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="hvq")
def main() -> None:
    """Encode photos into small, good-looking .hvq files, and decode them.

    A file named - is standard input or output, but for batch.
    """
    Image.MAX_IMAGE_PIXELS = None  # ours is the limit, before any pixel is read
    # Before torch is there: its threads wait for each other in a loop, for so long that two of
    # these processes at once on two processors take four to six times as long as in turn.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a SHELL: eval "$(hvq completion bash)"."""
    script = get_completion_class(shell)
    assert script is not None
    click.echo(script(main, {}, "hvq", "_HVQ_COMPLETE").source())


for command in (
    coding.encode,
    coding.decode,
    coding.info,
    many.batch,
    seeing.compare,
    seeing.view,
    seeing.demo,
    checking.evaluate,
    checking.doctor,
    models.models,
):
    main.add_command(command)
