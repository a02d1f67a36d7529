"""report.html: one page that holds everything, opens with no network, and lets text be nothing but text.

The page is a jinja2 template with autoescape, its styles and scripts files of their own beside it, all put inline; data
for the scripts is JSON that cannot close its element. A content security policy forbids every request.
"""

import base64
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from analysis.report.section import Picture, Section
from experiment.config import Config
from files import write_text

HERE = Path(__file__).parent / "page"
PICTURE_BYTES = 1_400_000
"""All pictures of a page, as SVG; above it the largest become PNG."""
LOOK_BYTES = 1_000_000
"""All attention patterns of a page."""


@dataclass(frozen=True)
class Part:
    """One study as the page shows it."""

    summary: dict  # analysis.summary.summarize
    sections: list[Section]
    facts: list[tuple[str, str]]
    look: dict | None  # analysis.report.viewer.look
    no_look: str | None = None  # why there is none, in words
    trained: bool = True  # here, as a sweep; False: a GPT-2 of another maker


def report_html(parts: Sequence[Part], notes: Sequence[str], command: str, figures: Path) -> str:
    """The page. notes: what has to be said before everything else; figures: where save_pictures put the pictures."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["whole"] = whole
    pictures = [picture for part in parts for section in part.sections for picture in section.pictures]
    return environment.get_template("report.html.j2").render(
        parts=parts,
        notes=notes,
        command=command,
        pictures=embed(pictures, figures),
        style=inline("report.css"),
        scripts=[inline("tables.js"), inline("explorer.js")],
    )


def whole(text: str) -> Markup:
    """Prose whose "H = 4", "95 %" and "± 0.01" no line end parts; it stays the same text."""
    together = r"\b[DH] = \d+|[±≥] \d[\d.]*|\d[\d.]* %"
    return Markup(re.sub(together, r'<span class="whole">\g<0></span>', str(Markup.escape(text))))


def write_report(path: Path, *arguments: Any) -> None:
    """Write report_html(*arguments) to `path`, whole or not at all."""
    write_text(path, report_html(*arguments))


def inline(name: str) -> Markup:
    """A style or script of the page's own, as it stands."""
    return Markup((HERE / name).read_text(encoding="utf-8"))


def embed(pictures: Sequence[Picture], folder: Path, budget: int = PICTURE_BYTES) -> dict[str, Markup]:
    """Each picture as markup, by id: inline SVG, and PNG for the largest ones while all are over `budget` bytes."""
    found = {picture.id: svg(picture, folder) for picture in pictures}
    for picture in sorted(pictures, key=lambda p: -len(found[p.id])):
        if sum(map(len, found.values())) <= budget:
            break
        found[picture.id] = min(found[picture.id], png(picture, folder), key=len)
    return found


def svg(picture: Picture, folder: Path) -> Markup:
    """The picture's SVG as an element of the page; its ids are made its own, as one page holds many."""
    text = (folder / f"{picture.id}.svg").read_text(encoding="utf-8")
    text = text[text.index("<svg ") :]
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{picture.id}-", text)
    label = Markup.escape(picture.caption)
    return Markup(text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1))


def png(picture: Picture, folder: Path) -> Markup:
    data = base64.b64encode((folder / f"{picture.id}.png").read_bytes()).decode("ascii")
    return Markup('<img alt="{}" src="data:image/png;base64,{}">').format(picture.caption, data)


def facts(config: Config, environment: dict, summary: dict) -> list[tuple[str, str]]:
    """What was trained on what, for the page's head. config: of the study's first experiment."""
    train, data = config.train, config.data
    runs = summary["runs"]
    heads = sorted({run["n_head"] for run in runs})
    seeds = sorted({run["seed"] for run in runs})
    used = sum(run["left_out"] is None for run in runs)
    versions = environment.get("versions", {})
    rows = [
        ("Network", f"D = {summary['n_embd']}, {summary['n_layer']} layers, context {summary['block_size']} tokens"),
        ("Parameters", f"{summary['parameters']:,}, the same for every H" if summary["parameters"] else "–"),
        ("Head counts H", ", ".join(map(str, heads))),
        ("Runs", f"{used} of {len(runs)} finished; seeds {', '.join(map(str, seeds))}"),
        ("Training", f"{train.max_iters:,} iterations of {tokens_per_iteration(config):,} tokens"),
        ("Corpus", f"{data.source}" + (f" ({os.path.basename(str(data.path))})" if data.path else "")),
    ]
    if environment.get("train_tokens"):
        validated = f"{environment['train_tokens']:,} to train, {environment['val_tokens']:,} to validate on"
        rows.append(("Tokens", f"{validated}; vocabulary {environment.get('vocab_size', '–')} ({data.tokenizer})"))
    machine = [str(environment[key]) for key in ("device", "precision") if environment.get(key)]
    machine += [f"torch {versions['torch']}"] if "torch" in versions else []
    if machine:
        rows.append(("Machine", ", ".join(machine)))
    return rows


def tokens_per_iteration(config: Config) -> int:
    train = config.train
    return train.batch_size * train.gradient_accumulation_steps * config.model.block_size
