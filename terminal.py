"""Text laid out for a terminal: tables, and texts beside each other, by the width that characters are shown in."""

import shlex
import shutil
import sys
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import wcwidth

from errors import KEPT

NARROWEST = 28
"""Cells that a column of text needs; where there are less for each, texts stand below each other."""


def window() -> int:
    """The terminal's width, cells; 100 where it says none."""
    return shutil.get_terminal_size((100, 24)).columns


def table(head: Sequence[str], rows: Sequence[Sequence[str]], width: int = 10**6) -> str:
    """Right-aligned columns, two spaces apart; what is wider than `width` goes on below, with the first column again.

    A single column wider than the window keeps its width.
    """
    widths = [max(wcwidth.width(row[i]) for row in [head, *rows]) for i in range(len(head))]
    blocks, block = [], [0]
    for i in range(1, len(head)):
        if len(block) > 1 and sum(widths[j] + 2 for j in [*block, i]) - 2 > width:
            blocks.append(block)
            block = [0]
        block.append(i)
    blocks.append(block)
    return "\n\n".join(
        "\n".join("  ".join(wcwidth.rjust(row[i], widths[i]) for i in block) for row in [head, *rows])
        for block in blocks
    )


def side_by_side(titles: Sequence[str], texts: Sequence[str], width: int) -> str:
    """Texts under their titles, as many beside each other as have room, the others below."""
    fitting = max(1, min(len(texts), (width + 3) // (NARROWEST + 3)))
    rows = -(-len(texts) // fitting)
    fitting = -(-len(texts) // rows)
    column = (width + 3) // fitting - 3
    lines = []
    for first in range(0, len(texts), fitting):
        blocks = [
            [wcwidth.clip(title, 0, column), "─" * column, *wrap(text, column).split("\n"), ""]
            for title, text in zip(titles[first : first + fitting], texts[first : first + fitting], strict=True)
        ]
        for cells in zip_longest(*blocks, fillvalue=""):
            lines.append(" │ ".join(wcwidth.ljust(cell, column) for cell in cells).rstrip(" │"))
    return "\n".join(lines)


def wrap(text: str, width: int) -> str:
    """Long lines folded at spaces, the text's own line ends kept; control characters are shown as ·, not obeyed."""
    text = text.replace("\r\n", "\n").replace("\t", "    ")
    shown = "".join(c if c == "\n" or c.isprintable() or c in KEPT else "·" for c in text)
    lines = (wcwidth.wrap(line, width, replace_whitespace=False) or [""] for line in shown.split("\n"))
    return "\n".join("\n".join(line) for line in lines)


def counted(number: int, what: str) -> str:
    """1 layer, 2 layers"""
    return f"{number} {what}" + "s" * (number != 1)


def command(program: str, *arguments: object) -> str:
    """A command line that works where it is read: with this interpreter and folder, or as installed commands."""
    started = Path(sys.argv[0])
    if started.suffix != ".py" and started.name.startswith("headcount-"):
        start = [f"headcount-{Path(program).stem}"]
    else:
        python = "python" if shutil.which("python") == sys.executable else _from_here(Path(sys.executable))
        start = [python, _from_here(started.with_name(program)) if started.suffix == ".py" else program]
    return shlex.join([*start, *map(str, arguments)])


def _from_here(path: Path) -> str:
    """The path, relative where it leads into the working directory."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
