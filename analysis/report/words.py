"""Numbers as a reader meets them, the same in tables, sentences and figures: one minus sign, and a dash for none."""

import math
from collections.abc import Sequence

WHOLE = r"\b[DH] = \d+|\bp (?:[=<≤]|&lt;) \d[\d.]*|[±≥] \d[\d.]*|\d[\d.]* %"
"""What no line end may part."""


def number(value: float | None, digits: int = 4, sign: str = "") -> str:
    """A number with so many decimals; sign: "+" to show that of a positive one too."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:{sign}.{digits}f}"
    return text.replace("-", "−" if float(text) else "")


def signed(value: float | None, digits: int = 4) -> str:
    return number(value, digits, "+")


def plus_minus(mean: float | None, deviation: float | None, digits: int = 4) -> str:
    return number(mean, digits) + ("" if deviation is None else f" ± {number(deviation, digits)}")


def interval(mean: float | None, half_width: float | None, digits: int = 4, sign: str = "") -> str:
    """From the lower to the upper end."""
    if mean is None or half_width is None:
        return "–"
    return f"{number(mean - half_width, digits, sign)} … {number(mean + half_width, digits, sign)}"


def size(value: float) -> str:
    """Four decimals, or two digits of what is too small for them."""
    return f"{value:.4f}" if value == 0 or value >= 0.001 else f"{value:.2g}"


def p_only(p: float | None) -> str:
    """A p value to read under a head "p"."""
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.0995 else f"{p:.2f}"


def p_text(p: float, most: bool = False) -> str:
    """A p value in a sentence; most: the largest of several."""
    return f"p {p_only(p)}" if p < 0.001 else f"p {'≤' if most else '='} {p_only(p)}"


def percent(share: float | None, digits: int = 0) -> str:
    return "–" if share is None else f"{number(100 * share, digits)} %"


def listed(words: Sequence[str]) -> str:
    """a, b and c; nothing of nothing."""
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)


def plain(relation: str) -> str:
    return relation.replace("_", "-")


def told_at(place: str, text: str) -> str:
    """The text after what it is of, "At learning rate 1e-3, …"; as it is where there is no place or no text."""
    return f"{place[0].upper()}{place[1:]}, {text[0].lower()}{text[1:]}" if place and text else text
