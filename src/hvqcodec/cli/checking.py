"""`hvq eval` and `hvq doctor`."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from hvqcodec.cli.options import (
    INPUTS,
    STREAM,
    decoding_model_option,
    device_option,
    encoding_model_option,
    json_option,
    perceptual_option,
    source_of,
    threads_option,
)
from hvqcodec.cli.terminal import progress_bar


@click.command("eval")
@click.argument("original", type=INPUTS)
@click.argument("decoded", type=INPUTS)
@decoding_model_option
@perceptual_option
@json_option
def evaluate(
    original: Path, decoded: Path, model: str | None, perceptual: Path | None, as_json: bool
) -> None:
    """Say how far DECODED is from ORIGINAL: images or .hvq files, of one size.

    Of two folders: how far each image is from that of the same name, as hvq batch leaves them,
    and the means.

    PSNR and MS-SSIM; SSIMULACRA2 with hvqcodec[metrics]; LPIPS with the package lpips or
    --perceptual.
    """
    from hvqcodec.metrics.evaluation import Evaluation, evaluate
    from hvqcodec.metrics.folders import FolderEvaluation, evaluate_folders

    if original == decoded == STREAM:
        raise click.UsageError("only one of the two can come from standard input")
    measured: Evaluation | FolderEvaluation
    if original.is_dir() and decoded.is_dir():
        with progress_bar("measuring") as progress:
            measured = evaluate_folders(
                original, decoded, perceptual, model=model, progress=progress
            )
    elif original.is_dir() or decoded.is_dir():
        raise click.UsageError("give two images, or two folders")
    else:
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
