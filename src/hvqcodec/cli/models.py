"""`hvq models`."""

import json

import click

from hvqcodec.cli.options import complete_model
from hvqcodec.models import cards


@click.group(no_args_is_help=False)
def models() -> None:
    """The models that are at hand."""


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="With their cards, as JSON.")
def models_list(as_json: bool) -> None:
    """Names of the models inside the package."""
    names = cards.list_models()
    if as_json:
        click.echo(json.dumps({name: cards.card_of(name) for name in names}))
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

    path = cards.model_path(model)
    load_model(path)
    click.echo(path)
