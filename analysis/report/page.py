"""The report as files: report.html, report.json, figures/ and, where asked for, tables/.

The page is one file that holds everything and opens with no network: a jinja2 template with autoescape, its styles and
scripts files of their own beside it, all put inline; data for the scripts is JSON that cannot close its element. A
content security policy forbids every request.
"""

import base64
import csv
import io
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import jinja2
from markupsafe import Markup

from analysis.collect import collect
from analysis.report.figures import render
from analysis.report.parts import study_plan
from analysis.report.section import Part, Picture, Section, Table, failure
from analysis.report.words import WHOLE
from experiment.folder import Experiment, refuse_links
from files import make_folder, write_bytes, write_json, write_text

log = logging.getLogger("headcount")

HERE = Path(__file__).parent / "template"
PICTURE_BYTES = 1_400_000
"""All pictures of a page, as SVG; above it the largest become PNG."""
ZOOM = 1.3
"""A figure on the page against the same on paper."""

Named = TypeVar("Named", Section, Picture, Table)
Drawn = dict[str, dict[str, bytes]]
"""The pictures by id: {format: bytes}."""


def write_report(
    out: Path, parts: Sequence[Part], notes: Sequence[str], command: str, titles: bool = False, tables: bool = False
) -> dict:
    """Write all files into `out`, and remove the figures and tables of an earlier report; return report.json's content.

    notes: what has to be said before everything else. titles: of figures, in them. tables: as CSV, too.
    """
    parts = distinct(parts)
    parts, drawn = draw(parts, titles)
    files = {f"figures/{id}.{kind}": data for id, kinds in drawn.items() for kind, data in kinds.items()}
    every = [table for part in parts for section in part.sections for table in section.tables]
    files |= {f"tables/{table.id}.csv": csv_text(table).encode() for table in every if tables}
    report = {
        "format": 3,
        "notes": list(notes),
        "studies": [content(part) for part in parts if part.facts],
        "overview": next((part.sections[0].data for part in parts if not part.facts), None),
        "figures": [name for name in files if name.startswith("figures/")],
        "tables": [name for name in files if name.startswith("tables/")],
    }
    page = html(parts, notes, command, drawn)
    make_folder(out, "--out")
    before = earlier(out)
    for name in files:
        refuse_links((out / name).parent)
        (out / name).parent.mkdir(exist_ok=True)
        write_bytes(out / name, files[name])
    write_json(out / "report.json", report)
    write_text(out / "report.html", page)
    for name in before - set(files):
        (out / name).unlink(missing_ok=True)
    return report


def write_pictures(folder: Path) -> list[Path]:
    """The figures of an experiment that need no network, as PNG in its figures/."""
    (study, *_), _ = collect([folder])
    part = study_plan(study, [Experiment.open(folder)], None, True, "cpu").make()
    drawn = draw(distinct([part]), False)[1]
    (folder / "figures").mkdir(exist_ok=True)
    paths = [folder / "figures" / f"{id}.png" for id in drawn]
    for path, files in zip(paths, drawn.values(), strict=True):
        write_bytes(path, files["png"])
    return paths


def content(part: Part) -> dict:
    """A part in report.json."""
    return {
        "name": part.name,
        **part.summary,
        "answer": part.answer,
        "opening": part.opening.text if part.opening else [],
        "notes": part.notes,
        "sections": {section.id: section.data for section in part.sections if section.data},
    }


def earlier(out: Path) -> set[str]:
    """The figures and tables that an earlier report wrote into `out`, by its report.json."""
    try:
        held = json.loads((out / "report.json").read_text(encoding="utf-8"))
        names = [*held.get("figures", []), *held.get("tables", [])]
    except (OSError, ValueError, AttributeError, TypeError):
        return set()
    return {name for name in map(str, names) if re.fullmatch(r"(figures|tables)/[\w-]+\.(svg|png|pdf|csv)", name)}


def distinct(parts: Sequence[Part]) -> list[Part]:
    """The parts with ids that occur once: the second section, picture or table called "loss" is "loss-2"."""
    seen = Counter()

    def own(thing: Named) -> Named:
        seen[type(thing), thing.id] += 1
        count = seen[type(thing), thing.id]
        return thing if count == 1 else replace(thing, id=f"{thing.id}-{count}")

    def owned(section: Section) -> Section:
        return replace(own(section), pictures=list(map(own, section.pictures)), tables=list(map(own, section.tables)))

    return [each_section(part, owned) for part in parts]


def each_section(part: Part, change: Callable[[Section], Section]) -> Part:
    """The part with every section changed."""
    opening = part.opening and change(part.opening)
    return replace(part, opening=opening, sections=list(map(change, part.sections)))


def draw(parts: Sequence[Part], titles: bool) -> tuple[list[Part], Drawn]:
    """Every picture drawn; one that cannot be is left out of its section, which says why."""
    drawn = {}

    def drawable(section: Section) -> Section:
        pictures, text = [], list(section.text)
        for picture in section.pictures:
            try:
                drawn[picture.id] = render(picture, titles)
                pictures.append(picture)
            except Exception as error:
                text.append(f"The figure {picture.id} cannot be drawn: {failure(error)}")
                log.warning(text[-1])
        return replace(section, pictures=pictures, text=text)

    return [each_section(part, drawable) for part in parts], drawn


def csv_text(table: Table) -> str:
    """Minus signs that a spreadsheet reads, an empty cell for a dash."""
    text = io.StringIO()
    rows = [["" if cell == "–" else cell.replace("−", "-") for cell in row] for row in [table.head, *table.rows]]
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def html(parts: Sequence[Part], notes: Sequence[str], command: str, drawn: Drawn) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["whole"] = whole
    sections = [section for part in parts for section in (part.opening, *part.sections) if section]
    captions = {picture.id: picture.caption for section in sections for picture in section.pictures}
    return environment.get_template("report.html.j2").render(
        parts=parts,
        notes=notes,
        command=command,
        pictures=embed(drawn, captions),
        style=inline("report.css"),
        scripts=[inline("tables.js"), inline("explorer.js")],
    )


def whole(text: str) -> Markup:
    """Prose whose "H = 4", "95 %" and "± 0.01" no line end parts; it stays the same text."""
    return Markup(re.sub(WHOLE, r'<span class="whole">\g<0></span>', str(Markup.escape(text))))


def inline(name: str) -> Markup:
    """A style or script of the page's own, as it stands."""
    return Markup((HERE / name).read_text(encoding="utf-8"))


def embed(drawn: Drawn, captions: Mapping[str, str], budget: int = PICTURE_BYTES) -> dict[str, Markup]:
    """Each picture as markup, by id: inline SVG, and PNG for the largest ones while all are over `budget` bytes."""
    found = {id: svg(id, files["svg"].decode(), captions[id]) for id, files in drawn.items()}
    for id in sorted(found, key=lambda id: -len(found[id])):
        if sum(map(len, found.values())) <= budget:
            break
        data = base64.b64encode(drawn[id]["png"]).decode("ascii")
        width = re.search(r'width="[\d.]+"', found[id]).group()
        element = Markup('<img alt="{}" {} src="data:image/png;base64,{}">').format(captions[id], Markup(width), data)
        found[id] = min(found[id], element, key=len)
    return found


def svg(id: str, text: str, caption: str) -> Markup:
    """A picture's SVG as an element of the page; its ids are made its own, as one page holds many."""
    text = text[text.index("<svg ") :]
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' id="image\w+"', "", text)  # of its content: two that are alike have the same
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{id}-", text)
    points = float(re.search(r'width="([\d.]+)pt"', text).group(1))
    size = f'width="{points * 96 / 72 * ZOOM:.0f}" role="img" aria-label="{Markup.escape(caption)}"'
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    return Markup(text.replace("<svg ", f"<svg {size} ", 1))
