"""`hvq eval` and `hvq doctor`."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from hvqcodec.cli.options import (
    INPUT,
    STREAM,
    decoding_model_option,
    device_option,
    encoding_model_option,
    json_option,
    perceptual_option,
    source_of,
    threads_option,
)


@click.command("eval")
@click.argument("original", type=INPUT)
@click.argument("decoded", type=INPUT)
@decoding_model_option
@perceptual_option
@json_option
def evaluate(
    original: Path, decoded: Path, model: str | None, perceptual: Path | None, as_json: bool
) -> None:
    """Say how far DECODED is from ORIGINAL: images or .hvq files, of one size.

    PSNR and MS-SSIM; SSIMULACRA2 with hvqcodec[metrics]; LPIPS with the package lpips or
    --perceptual.
    """
    from hvqcodec.metrics.evaluation import evaluate

    if original == decoded == STREAM:
        raise click.UsageError("only one of the two can come from standard input")
    measured = evaluate(source_of(original), source_of(decoded), perceptual, model=model)
    if as_json:
        click.echo(json.dumps(asdict(measured)))
        return
    for line in measured.lines():
        click.echo(line)


@click.command()
@encoding_model_option
@device_option
@threads_option
@json_option
def doctor(model: str, device: str, threads: int | None, as_json: bool) -> None:
    """Say what there is to work with, and test that it works."""
    from hvqcodec.doctor import examine

    report = examine(model, device, threads)
    if as_json:
        click.echo(json.dumps(report.to_dict()))
    else:
        for line in report.lines():
            click.echo(line)
    if not report.well:
        raise click.exceptions.Exit(1)
