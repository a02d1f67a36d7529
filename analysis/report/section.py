"""The parts that a report is made of: every part of analysis ends in Sections, and page and terminal show those alone.

An id is unique in its section; the page makes it unique among all. A picture is drawn when the report is written, so
that one that cannot be drawn takes nothing else with it.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from analysis.measure.texts import CannotMeasure
from analysis.report.words import told_at
from errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger("headcount")


@dataclass(frozen=True)
class Table:
    """Rows under a head, as text already."""

    id: str  # letters, digits and hyphens; the name of its CSV
    caption: str
    head: list[str]
    rows: list[list[str]]
    brief: list[str] | None = None  # the columns that the terminal shows; None: none of it


@dataclass(frozen=True)
class Picture:
    """A figure, saved as figures/<id>.svg, .pdf and .png."""

    id: str
    title: str  # in the figure only where it is asked for
    caption: str
    draw: Callable[[], "Figure"]


@dataclass(frozen=True)
class Section:
    """One question and its answer, in the order in which a reader meets the parts: text, pictures, tables."""

    id: str
    title: str
    text: list[str] = field(default_factory=list)  # paragraphs, plain text
    pictures: list[Picture] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    data: dict = field(default_factory=dict)  # goes into report.json under the section's id; plain JSON values
    answer: str = ""  # all of it in a sentence, from the lowest H to the highest, for the opening
    view: dict | None = None  # what the page's own part of this id (explorer, samples) shows


@dataclass(frozen=True)
class Part:
    """One study, or one GPT-2 of another maker, as a report shows it."""

    name: str
    headline: str  # what it is, for the terminal
    answer: list[str]  # in full, a paragraph for each comparison
    facts: list[tuple[str, str]]
    sections: list[Section]
    opening: Section | None = None  # the answer in short, before everything else
    notes: list[str] = field(default_factory=list)
    summary: dict = field(default_factory=dict)  # goes into report.json
    trained: bool = True  # here, as a sweep


def placed(sections: "list[Section]", place: str) -> "list[Section]":
    """Sections of one group of runs among several: titles, captions and answers say which, "at learning rate 1e-3".

    As they are where place is empty.
    """
    if not place:
        return sections
    return [
        replace(
            section,
            title=f"{section.title.removesuffix('?')} {place}?" if section.title.endswith("?") else section.title,
            pictures=[replace(picture, caption=told_at(place, picture.caption)) for picture in section.pictures],
            tables=[replace(table, caption=told_at(place, table.caption)) for table in section.tables],
            answer=told_at(place, section.answer),
        )
        for section in sections
    ]


def attempt(id: str, title: str, make: Callable[[], "Section | list[Section] | None"]) -> list[Section]:
    """The sections that `make` returns; where it fails, one that says why in their place."""
    try:
        made = make()
    except Exception as error:
        why = failure(error)
        log.warning(f"{title} {why}")
        return [Section(id, title, [f"This cannot be shown: {why}"])]
    return made if isinstance(made, list) else [made] if made else []


def failure(error: Exception) -> str:
    """What went wrong, as a sentence; with its kind where it was not foreseen."""
    foreseen = isinstance(error, InputError | CannotMeasure)
    return f"{error}." if foreseen else f"{type(error).__name__}: {error}"
