"""The page: one file of HTML that needs nothing else, and asks no other host for anything."""

import base64
import io
import json
from collections.abc import Iterable
from html import escape
from importlib import resources

import numpy as np
from PIL import Image

from hvqcodec.arrays import Pixels
from hvqcodec.metrics.measuring import LOWER_IS_BETTER, TITLES
from hvqcodec.report.chart import line_chart
from hvqcodec.report.comparing import HVQ, AtRate, Comparison
from hvqcodec.report.overlays import bits_overlay, granularity_overlay

ORIGINAL = "original"
MIME_TYPES = {"JPEG": "image/jpeg", "WebP": "image/webp", "AVIF": "image/avif"}
"""Of the codecs whose very files the browser shows."""

WEBP_MAX_SIDE = 16_383


def to_html(comparison: Comparison) -> str:
    """A self-contained page."""
    height, width = comparison.original.shape[:2]
    data = {
        "original": without_loss(comparison.original),
        "rates": [pictures(at_rate, width, height) for at_rate in comparison.rates],
    }
    codecs = [coded.codec for coded in comparison.rates[0].coded]
    return fill(
        resource("page.html"),
        name=escape(comparison.name),
        size=f"{width} × {height}",
        ratio=f"{width} / {height}",
        style=resource("page.css"),
        rates="".join(rate_button(n, r) for n, r in enumerate(comparison.rates)),
        left=options([ORIGINAL, *codecs], ORIGINAL),
        right=options([ORIGINAL, *codecs], HVQ),
        tables="".join(figures_table(n, r) for n, r in enumerate(comparison.rates)),
        notes="".join(f"<p>{escape(line)}</p>" for line in comparison.left_out),
        charts="".join(charts(comparison)),
        bytes=bytes_table(comparison.rates),
        # No text within may end the script.
        data=json.dumps(data).replace("</", "<\\/"),
        script=resource("page.js"),
    )


def fill(template: str, **values: str) -> str:
    """The template with `{{name}}` replaced by each value; nothing within a value is."""
    pieces = template.split("{{")
    filled = [pieces[0]]
    for piece in pieces[1:]:
        name, rest = piece.split("}}", 1)
        filled += [values[name], rest]
    return "".join(filled)


def resource(name: str) -> str:
    return (resources.files("hvqcodec.report") / name).read_text("utf-8")


def pictures(at_rate: AtRate, width: int, height: int) -> dict[str, object]:
    """What the script needs of a rate: sources of its pictures."""
    sources = {
        coded.codec: data_url(coded.data, MIME_TYPES[coded.codec])
        if coded.codec in MIME_TYPES
        else without_loss(coded.pixels)
        for coded in at_rate.coded
    }
    overlays = {
        "granularity": granularity_overlay(at_rate.levels, width, height),
        "bits": bits_overlay(at_rate.bits, width, height),
    }
    return {
        "sources": sources,
        "overlays": {name: png(image) for name, image in overlays.items()},
        "captions": {
            coded.codec: f"{coded.codec}, {len(coded.data)} bytes" for coded in at_rate.coded
        },
    }


def data_url(data: bytes, mime_type: str) -> str:
    return f"data:{mime_type};base64,{base64.b64encode(data).decode()}"


def without_loss(pixels: Pixels) -> str:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if max(image.size) > WEBP_MAX_SIDE:
        return png(image)
    file = io.BytesIO()
    image.save(file, "WEBP", lossless=True, quality=40, method=2)
    return data_url(file.getvalue(), "image/webp")


def png(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return data_url(file.getvalue(), "image/png")


def rate_button(number: int, at_rate: AtRate) -> str:
    checked = " checked" if not number else ""
    return (
        f'<label><input type="radio" name="rate" value="{number}"{checked}> '
        f"{at_rate.rate:g} bpp</label>"
    )


def options(names: Iterable[str], chosen: str) -> str:
    return "".join(
        f'<option value="{escape(name)}"{" selected" if name == chosen else ""}>'
        f"{escape(name)}</option>"
        for name in names
    )


def figures_table(number: int, at_rate: AtRate) -> str:
    """Bytes and metrics of all codecs; the best of each metric stands out."""
    metrics = list(at_rate.coded[0].figures)
    best = {
        metric: (min if metric in LOWER_IS_BETTER else max)(
            coded.figures[metric] for coded in at_rate.coded
        )
        for metric in metrics
    }
    rows = []
    for coded in at_rate.coded:
        beyond = len(coded.data) > len(at_rate.coded[0].data)
        cells = [
            f'<th scope="row" class="{coded.codec}">{coded.codec}</th>',
            f"<td>{len(coded.data)}{' (its smallest)' if beyond else ''}</td>",
            f"<td>{coded.bpp:.3f}</td>",
        ]
        for metric, value in coded.figures.items():
            kind = ' class="best"' if value == best[metric] else ""
            cells.append(f"<td{kind}>{figure(metric, value)}</td>")
        rows.append("".join(cells))
    arrows = {True: "↓", False: "↑"}
    heads = [f"{TITLES[metric]} {arrows[metric in LOWER_IS_BETTER]}" for metric in metrics]
    caption = f"At {at_rate.rate:g} bits per pixel"
    notice = f"<p>{escape(at_rate.notice)}</p>" if at_rate.notice else ""
    return (
        f'<div class="figures" data-rate="{number}"{" hidden" if number else ""}>'
        f"{table(caption, ['codec', 'bytes', 'bpp', *heads], rows)}{notice}</div>"
    )


def table(caption: str, heads: list[str], rows: list[str]) -> str:
    """rows: of cells in HTML."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def figure(metric: str, value: float) -> str:
    return f"{value:.1f}" if metric in ("psnr", "ssimulacra2") else f"{value:.3f}"


def charts(comparison: Comparison) -> Iterable[str]:
    for metric in comparison.rates[0].coded[0].figures:
        curves = {
            coded.codec: [
                (at_rate.coded[n].bpp, at_rate.coded[n].figures[metric])
                for at_rate in comparison.rates
            ]
            for n, coded in enumerate(comparison.rates[0].coded)
        }
        better = "lower" if metric in LOWER_IS_BETTER else "higher"
        yield line_chart(f"{TITLES[metric]} ({better} is better)", "bits per pixel", curves)


def bytes_table(rates: list[AtRate]) -> str:
    """Parts of the .hvq files, and a bar of them."""
    parts = list(rates[0].budget)
    rows = []
    for at_rate in rates:
        total = sum(at_rate.budget.values())
        shares = [100 * at_rate.budget[part] / total for part in parts]
        bar = "".join(
            f'<span class="part{n}" style="width:{share:.2f}%"></span>'
            for n, share in enumerate(shares)
        )
        cells = "".join(f"<td>{at_rate.budget[part]:.0f}</td>" for part in parts)
        rows.append(
            f'<th scope="row">{at_rate.rate:g} bpp</th>{cells}'
            f'<td class="bar"><div aria-hidden="true">{bar}</div></td>'
        )
    return table("Bytes of the .hvq files", ["rate", *parts, ""], rows)
