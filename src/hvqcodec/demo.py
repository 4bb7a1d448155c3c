"""A page to try the codec: drop a photo, move the rate, see it beside AVIF at equal bytes."""

import io
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from hvqcodec.bitstream import Bitstream
from hvqcodec.codec import Codec
from hvqcodec.errors import HvqError
from hvqcodec.metrics.evaluation import displayed
from hvqcodec.optional import require
from hvqcodec.report.rivals import best_within

RATES = (0.05, 0.35)
"""Of the slider, in bits per pixel."""
FIRST_RATE = 0.15
RIVAL = "AVIF"


def build(codec: Codec) -> Any:
    """The page, as Gradio's Blocks. Raises MissingError without Gradio."""
    # Gradio tells its makers of its use unless it is told not to.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    gradio = require("gradio", "demo")

    files = tempfile.TemporaryDirectory(prefix="hvq-")  # as long as the page

    def show(photo: str | None, rate: float) -> tuple[Any, str, Any]:
        if photo is None:
            return None, "", gradio.DownloadButton(interactive=False)
        try:
            data, pictures, told = code(codec, Path(photo), rate)
        except HvqError as error:
            raise gradio.Error(str(error)) from error
        file = Path(tempfile.mkdtemp(dir=files.name)) / f"{Path(photo).stem}.hvq"
        file.write_bytes(data)
        return pictures, told, gradio.DownloadButton(value=str(file), interactive=True)

    with gradio.Blocks(title="hvqcodec", analytics_enabled=False) as page:
        gradio.Markdown("# hvqcodec\nDrop a photo, choose the rate, and move the slider between.")
        # Of any other mode than RGB Gradio makes a new file, unless it is told not to.
        photo = gradio.Image(
            type="filepath", image_mode=None, sources=["upload", "clipboard"], label="Photo"
        )
        rate = gradio.Slider(*RATES, value=FIRST_RATE, step=0.01, label="Bits per pixel")
        pictures = gradio.ImageSlider(label=f"hvq and {RIVAL}", format="png", interactive=False)
        told = gradio.Markdown()
        download = gradio.DownloadButton("Download the .hvq file", interactive=False)
        for event in (photo.change, rate.change):
            # Of the steps of a slider that moves, the last one counts.
            event(show, [photo, rate], [pictures, told, download], trigger_mode="always_last")
    return page


def code(
    codec: Codec, photo: Path, rate: float
) -> tuple[bytes, tuple[Image.Image, Image.Image], str]:
    """The .hvq file, it and its rival as pictures, and a line about both."""
    data = codec.compress(photo, bpp=rate)
    ours = Image.fromarray(displayed(codec.decompress(data)))
    size = Bitstream.from_bytes(data).image_bytes  # the rival gets no metadata either
    rival = best_within(RIVAL, Image.fromarray(displayed(photo)), size)
    theirs = Image.open(io.BytesIO(rival)).convert("RGB")
    bpp = [8 * s / (ours.width * ours.height) for s in (size, len(rival))]
    told = (
        f"Left: hvq, {size} bytes, {bpp[0]:.3f} bpp. "
        f"Right: {RIVAL}, {len(rival)} bytes, {bpp[1]:.3f} bpp. Metadata aside."
    )
    return data, (ours, theirs), told


def launch(codec: Codec, host: str, port: int | None, open_browser: bool) -> None:
    """Serve the page until interrupted. Raises HvqError for an address that cannot be had."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port or 0), family=family).close()
    except OSError as error:
        raise HvqError(f"{host}:{port or ''} cannot be served at: {error.strerror}") from error
    page = build(codec)
    gradio = require("gradio", "demo")
    # The fonts of the system: those of Gradio's themes come from another host.
    theme = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    page.launch(
        server_name=host, server_port=port, inbrowser=open_browser, theme=theme, share=False
    )
