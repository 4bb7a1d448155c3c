"""Line charts as SVG."""

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 360, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 28, 40
TICKS = 4

Curve = Sequence[tuple[float, float]]


def line_chart(title: str, x_title: str, curves: Mapping[str, Curve]) -> str:
    """One line per curve, its points marked; the class of each is `curve` and its name."""
    points = [point for curve in curves.values() for point in curve]
    x_range, y_range = (padded([point[axis] for point in points]) for axis in (0, 1))

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x = LEFT + share(point[0], x_range) * (WIDTH - LEFT - RIGHT)
        y = HEIGHT - BOTTOM - share(point[1], y_range) * (HEIGHT - TOP - BOTTOM)
        return round(x, 1), round(y, 1)

    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)} by {escape(x_title)}">',
        text(WIDTH / 2, 16, title, "middle", "title"),
        text(WIDTH / 2, HEIGHT - 6, x_title, "middle"),
    ]
    left, right, top, bottom = LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM
    for value in ticks(*x_range):
        x, _ = place((value, y_range[0]))
        parts.append(f'<path class="grid" d="M{x} {top}V{bottom}"/>')
        parts.append(text(x, bottom + 16, f"{value:g}", "middle"))
    for value in ticks(*y_range):
        _, y = place((x_range[0], value))
        parts.append(f'<path class="grid" d="M{left} {y}H{right}"/>')
        parts.append(text(left - 6, y + 4, f"{value:g}", "end"))
    for name, curve in curves.items():
        places = [place(point) for point in sorted(curve)]
        line = "L".join(f"{x} {y}" for x, y in places)
        marks = "".join(f'<circle cx="{x}" cy="{y}" r="3.5"/>' for x, y in places)
        parts.append(f'<g class="curve {escape(name)}"><path d="M{line}"/>{marks}</g>')
    return "".join([*parts, "</svg>"])


def ticks(low: float, high: float) -> list[float]:
    """Round values between, about `TICKS`."""
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step)
    return [round(n * step, 10) for n in range(first, math.floor(high / step) + 1)]


def padded(values: Sequence[float]) -> tuple[float, float]:
    """The range of the values and a little more, never empty."""
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def share(value: float, limits: tuple[float, float]) -> float:
    return (value - limits[0]) / (limits[1] - limits[0])


def text(x: float, y: float, content: str, anchor: str, kind: str = "label") -> str:
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(content)}</text>'
