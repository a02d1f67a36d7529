"""The parts that a report is made of: every part of analysis ends in Sections, and the report shows Sections alone."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """Rows under a head, as text already; the report offers each as CSV."""

    id: str  # unique in the report, letters, digits and hyphens
    caption: str
    head: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Picture:
    """A drawn figure. `figure` is a matplotlib Figure, saved as figures/<id>.svg and .png; the report embeds one."""

    id: str
    caption: str
    figure: object


@dataclass(frozen=True)
class Section:
    """One question and its answer, in the order in which a reader meets the parts: text, pictures, tables."""

    id: str
    title: str
    text: list[str] = field(default_factory=list)  # paragraphs, plain text
    pictures: list[Picture] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    data: dict = field(default_factory=dict)  # goes into report.json under the section's id; plain JSON values
