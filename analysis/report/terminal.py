"""The terminal's view of a report: its answers, and the tables that are meant for it, in the width there is."""

import re
import textwrap
from collections.abc import Sequence

from analysis.report.section import Part, Table
from analysis.report.words import WHOLE
from terminal import table


def report_text(parts: Sequence[Part], notes: Sequence[str], width: int) -> str:
    """The report as text of at most `width` columns, where no single word is longer."""
    texts = [bullets(notes, width)]
    for part in parts:
        texts += [fill(part.headline, width), bullets(part.notes, width)]
        texts += [brief(t, width) for section in part.sections for t in section.tables if t.brief]
        texts += [fill(answer, width) for answer in part.answer]
        texts += [fill(" ".join(part.opening.text[1:]), width)] if part.opening else []
    return "\n\n".join(text for text in texts if text)


def brief(shown: Table, width: int) -> str:
    """The columns of a table that are meant for the terminal, and what it shows."""
    kept = [shown.head.index(name) for name in shown.brief]
    head, *rows = [[row[i] for i in kept] for row in [shown.head, *shown.rows]]
    return f"{table(head, rows, width)}\n{fill(shown.caption, width)}"


def bullets(notes: Sequence[str], width: int) -> str:
    return "\n".join(fill(n, width, initial_indent="- ", subsequent_indent="  ") for n in notes)


def fill(text: str, width: int, **indents: str) -> str:
    """The text in lines of at most `width`, which part no "H = 4"."""
    joined = re.sub(WHOLE, lambda found: found[0].replace(" ", "\u00a0"), text)
    return textwrap.fill(joined, width, **indents).replace("\u00a0", " ")
