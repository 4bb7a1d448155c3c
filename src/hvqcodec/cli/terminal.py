"""What appears on a terminal beside results: errors and notices in one line, and progress."""

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from hvqcodec.errors import HvqError, HvqWarning, RateError, is_out_of_memory

QUIET_SECONDS = 2.0
"""What is done sooner needs no bar."""


class OneLine(click.Group):
    """A group whose commands say what is wrong in one line on standard error: status 1 for a
    fault of the file or image, 2 for a fault of the call; and notices likewise."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["standalone_mode"] = False
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = show_notice
            status = self._run(*args, **kwargs)
        sys.exit(status)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            # Click would put an empty line before the one that says so.
            raise click.Abort from None

    def _run(self, *args: Any, **kwargs: Any) -> int:
        try:
            status = super().main(*args, **kwargs)
            return status if isinstance(status, int) else 0
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx else "hvq"
            fault = 2, f"{error.format_message()} ({path} --help says more)"
        except click.ClickException as error:
            fault = error.exit_code, error.format_message()
        except HvqError as error:
            fault = 2 if isinstance(error, RateError) else 1, str(error)
        except (click.Abort, KeyboardInterrupt):
            fault = 130, "interrupted"
        except OSError as error:
            name = f"{error.filename}: " if error.filename else ""
            fault = 1, f"{name}{error.strerror or error}"
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            fault = 1, "not enough memory: a smaller --tile needs less"
        say("Error", fault[1])
        return fault[0]


def show_notice(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Other warnings, such as Pillow's, speak of the inside of files, not of what was done."""
    if issubclass(category, HvqWarning):
        say("Notice", str(message))


def say(kind: str, message: str) -> None:
    if is_watched():
        click.echo("\r\x1b[K", nl=False, err=True)  # off the line of a bar
    click.echo(f"{kind}: {' '.join(message.split())}", err=True)


def is_watched() -> bool:
    """Whether standard error is a terminal; where it is closed there is none."""
    return sys.stderr is not None and sys.stderr.isatty()


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[float], None]]:
    """What to call with the share that is done; it draws a bar on standard error, if that is
    a terminal and the work takes over two seconds."""
    begin = time.monotonic()
    with click.progressbar(length=100, label=label, file=sys.stderr, hidden=True) as bar:

        def update(share: float) -> None:
            bar.hidden = not is_watched() or time.monotonic() - begin < QUIET_SECONDS
            bar.update(round(100 * share) - bar.pos)

        yield update
