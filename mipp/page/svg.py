"""Figures as part of a page: its colours, which have a dark mode, and SVG files made inline."""

from __future__ import annotations

import re

# Colour in the files -> variable of the page's style sheet, so that pages have a dark mode.
INK, PAPER, RULE = "#24292f", "#ffffff", "#d5d9de"
KEPT, DROPPED, ALARM = "#2f6fbb", "#d9822b", "#b3261e"
VARIABLES = {
    INK: "var(--ink)",
    PAPER: "var(--paper)",
    RULE: "var(--rule)",
    KEPT: "var(--kept)",
    DROPPED: "var(--dropped)",
    ALARM: "var(--alarm)",
}


def inline_svg(svg: str, name: str, label: str) -> str:
    """An SVG file as an element of a page: no outside names, own ids, the page's colours.

    Parameters
    ----------
    label : what the figure shows, escaped for an attribute.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (xmlns(:xlink)?|width|height|version)="[^"]*"', "", svg, count=5)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = svg.replace("xlink:href=", "href=")
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"font: ([^;]*?)(px|pt) [^;\"]*", r"font: \1\2 var(--font)", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).strip()
