"""Plots as SVG, with nothing but the standard library: bars beside each other, and lines over a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 860, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 180, 50, 60
# Told apart by people who see colours differently too (Okabe and Ito).
COLOURS = ["#000000", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999", "#f0e442"]

Series = tuple[str, Sequence[float | None]]


def text(x: float, y: float, words: str, anchor: str = "middle", size: int = 12, extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" {extra}>{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, colour: str = "#ddd", width: float = 1) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{colour}" stroke-width="{width}"/>'
    )


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:g}"


class Axis:
    """Logarithmic, from one power of ten (or a fifth or half of it) to another."""

    def __init__(self, values: list[float], low: float, high: float) -> None:
        least, most = min(values), max(values)
        steps = [factor * 10.0**power for power in range(-4, 9) for factor in (1, 2, 5)]
        self.least = max((step for step in steps if step <= least * 0.9999), default=steps[0])
        self.most = min((step for step in steps if step >= most * 1.0001), default=steps[-1])
        self.low, self.high = low, high
        inside = [step for step in steps if self.least <= step <= self.most]
        self.ticks = inside if len(inside) <= 8 else [step for step in inside if math.log10(step) % 1 < 1e-9]

    def at(self, value: float) -> float:
        span = math.log(self.most / self.least)
        return self.low + (self.high - self.low) * math.log(value / self.least) / span


def frame(title: str, unit: str, axis: Axis) -> list[str]:
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(LEFT, 22, title, "start", 15, 'font-weight="bold"'),
        text(LEFT, 40, unit, "start", 11, 'fill="#555"'),
    ]
    for tick in axis.ticks:
        parts.append(line(LEFT, axis.at(tick), WIDTH - RIGHT, axis.at(tick)))
        parts.append(text(LEFT - 6, axis.at(tick) + 4, number(tick), "end", 11))
    return parts


def legend(series: Sequence[Series], parts: list[str]) -> None:
    for index, (name, _) in enumerate(series):
        y = TOP + 10 + 20 * index
        colour = COLOURS[index % len(COLOURS)]
        parts.append(f'<rect x="{WIDTH - RIGHT + 14}" y="{y - 9}" width="12" height="12" fill="{colour}"/>')
        parts.append(text(WIDTH - RIGHT + 32, y + 1, name, "start"))


def bars(title: str, unit: str, groups: Sequence[str], series: Sequence[Series], tips: Sequence[Series] = ()) -> str:
    """A group for each of `groups`, a bar in it for each of `series`; `tips` are thin marks above the bars. `unit` says
    what is shown. None: no such bar."""
    values = [value for _, row in (*series, *tips) for value in row if value]
    axis = Axis(values, HEIGHT - BOTTOM, TOP)
    parts = frame(title, unit, axis)
    room = (WIDTH - LEFT - RIGHT) / len(groups)
    wide = room * 0.86 / len(series)
    for index, (name, row) in enumerate(series):
        colour = COLOURS[index % len(COLOURS)]
        above = tips[index][1] if tips else [None] * len(row)
        for group, value in enumerate(row):
            if not value:
                continue
            x = LEFT + room * group + room * 0.07 + wide * index
            top, base = axis.at(value), HEIGHT - BOTTOM
            parts.append(
                f'<rect x="{x:.1f}" y="{top:.1f}" width="{wide * 0.9:.1f}" height="{base - top:.1f}" '
                f'fill="{colour}"><title>{escape(name)}, {escape(groups[group])}: {value:.4g}</title></rect>'
            )
            tip = above[group]
            if tip:
                middle = x + wide * 0.45
                parts.append(line(middle, top, middle, axis.at(tip), colour, 1.5))
                parts.append(line(x, axis.at(tip), x + wide * 0.9, axis.at(tip), colour, 2))
    for group, name in enumerate(groups):
        parts.append(text(LEFT + room * (group + 0.5), HEIGHT - BOTTOM + 20, name))
    parts.append(line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "#333"))
    legend(series, parts)
    return "\n".join([*parts, "</svg>", ""])


def lines(title: str, unit: str, below: str, places: Sequence[float], series: Sequence[Series]) -> str:
    """A line for each of `series` over `places`; `below` says what those are. None: no such point."""
    axis = Axis([value for _, row in series for value in row if value], HEIGHT - BOTTOM, TOP)
    across = Axis([float(place) for place in places], LEFT + 20, WIDTH - RIGHT - 20)
    across.least, across.most = float(min(places)), float(max(places)) * (1 if len(places) > 1 else 2)
    parts = frame(title, unit, axis)
    for index, (name, row) in enumerate(series):
        colour = COLOURS[index % len(COLOURS)]
        points = [(across.at(place), axis.at(value)) for place, value in zip(places, row, strict=True) if value]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, y in points:
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"><title>{escape(name)}</title></circle>')
    for place in places:
        parts.append(text(across.at(place), HEIGHT - BOTTOM + 20, number(place)))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - BOTTOM + 42, below, size=11))
    parts.append(line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "#333"))
    legend(series, parts)
    return "\n".join([*parts, "</svg>", ""])
