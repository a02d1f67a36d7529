"""The results page: what is kept of each study, in a JSON file beside the page, and the page made from all of these.

So a page grows by the studies that are trained, on one machine or several, and anyone can look its numbers up.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from analysis.report import overview
from analysis.report.figures import render
from analysis.report.words import listed
from data.dataset import prepare
from experiment.folder import Experiment
from experiments import choice, findings, networks, published, repeated
from experiments.findings import AGAIN, CENTRE, LEARNED, Studies
from experiments.ngrams import ngram_loss
from files import make_folder, write_bytes, write_text
from training.growth import seconds_of

TEMPLATE = Path(__file__).parent / "page.md"
SECTIONS = ("relations", "ablation", "heads")
"""Of report.json, what the page is made of beside losses."""
NOTHING = "Nothing can be said: studies that it takes are not kept here, or were trained with other settings."


def keep(page: Path, name: str, folder: Path, version: str) -> None:
    """Keep a study for a page: what report.json holds of it, without paths, and how it was made.

    version: of the map, "reduced" or "whole".
    """
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    (study,), experiment = report["studies"], Experiment.open(folder)
    study.pop("folders")
    for run in study["runs"]:
        run.pop("folder")
    study["notes"] = [note.replace(str(folder), name) for note in study["notes"]]
    study["sections"] = {id: data for id, data in study["sections"].items() if id in SECTIONS}
    held = {"format": report["format"], "made": {"version": version} | how(experiment)}
    held |= {"baselines": baselines(experiment)} if name == CENTRE else {}
    make_folder(folder_of(page), "--page")
    text = json.dumps(held | {"study": study}, allow_nan=False)
    write_text(folder_of(page) / f"{name}.json", text + "\n")  # in one line: indented it is three times as long


def folder_of(page: Path) -> Path:
    """Where the studies of docs/results.md are kept: docs/results/."""
    return page.with_suffix("")


def kept(page: Path, names: Iterable[str]) -> dict[str, dict]:
    """{format, made, study} of those of the names that a page has, in their order; of the centre the baselines, too."""
    files = {name: folder_of(page) / f"{name}.json" for name in names}
    return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.exists()}


def how(experiment: Experiment) -> dict:
    """On what, with which commits, in how many hours of training, by metrics.jsonl."""
    starts = experiment.environment["starts"]
    added = [start for start in starts if start.get("added")]
    return {
        "devices": sorted({start.get("device", "an unknown device") for start in added}),
        "commits": list(dict.fromkeys(start["commit"] for start in added if start.get("commit"))),
        "hours": sum(seconds_of(experiment, start) or 0 for start in starts) / 3600,
    }


def baselines(centre: Experiment) -> dict[str, float]:
    """What counting tokens reaches on the centre's validation text; trigrams where the vocabulary is small."""
    data = prepare(centre.config.data, progress=False)
    size = data.tokenizer.vocab_size
    orders = {"bigram": 2, "trigram": 3} if size < 200 else {"bigram": 2}
    return {name: ngram_loss(data.train, data.val, size, order) for name, order in orders.items()}


def write_page(page: Path, held: Mapping[str, Mapping]) -> None:
    """Put what is said of the map, of each study and of the machines between the markers of page.md; draw the map."""
    studies: Studies = {name: of["study"] for name, of in held.items()}
    mapped = findings.answers(studies)
    parts = {
        "map": "",
        "practice": choice.practice(studies),
        "by setting": choice.by_setting(studies),
        "settings": findings.settings(studies),
        "corrected": findings.corrected(studies),
        "by length": findings.by_length(studies),
        "on the way": findings.on_the_way(studies.get(CENTRE, {})),
        "trained little": choice.trained_little(studies, held.get(CENTRE, {}).get("baselines", {})),
        "checked": repeated.checked(studies),
        "elsewhere": repeated.elsewhere(studies),
        "relations": networks.relations(studies.get(LEARNED, {})),
        "one head": published.one_head(studies),
        "bottleneck": published.bottleneck(studies),
        "prunable": networks.prunable(studies.get(CENTRE, {})),
        "studies": "\n".join(
            f"- **{name}**: {' '.join(study['answer'])}" for name, study in studies.items() if name not in AGAIN
        ),
        "kept": f"[{folder_of(page).name}/]({folder_of(page).name})",
        "machine": machines(held),
    }
    make_folder(folder_of(page), "--page")
    if mapped:
        table, (picture,) = overview.table("study", mapped), overview.pictures("study", mapped)
        write_bytes(folder_of(page) / "map.svg", render(picture)["svg"])
        figure = f"![Effect of H by study, and the trends]({folder_of(page).name}/map.svg)\n\n{picture.caption}"
        parts["map"] = f"{findings.markdown(table.head, table.rows)}\n\n{figure}"
    for name in (CENTRE, LEARNED):
        parts[f"opening of {name}"] = "\n\n".join(studies[name]["opening"][1:]) if name in studies else ""
    text = TEMPLATE.read_text(encoding="utf-8")
    for name, part in parts.items():
        text = text.replace(f"<!-- {name} -->", part or NOTHING)
    write_text(page, text)


def machines(held: Mapping[str, Mapping]) -> str:
    """On what each study was made, a line for those made alike."""
    alike: dict[tuple, list[str]] = {}
    for name, of in held.items():
        made = of["made"]
        alike.setdefault((made["version"], *made["devices"], ", ".join(made["commits"])), []).append(name)
    lines = []
    for (version, *devices, commits), names in alike.items():
        hours = sum(held[name]["made"]["hours"] for name in names)
        counts = sorted({len({run["seed"] for run in held[name]["study"]["runs"]}) for name in names})
        seeds = f"{' or '.join(map(str, counts))} seeds"
        lines.append(
            f"- {listed(names)}: the {version} version, {seeds}, {hours:.1f} hours of training on "
            f"{' and '.join(devices)}, commit {commits or 'unknown'}"
        )
    dirty = any(commit.endswith("+") for of in held.values() for commit in of["made"]["commits"])
    return "\n".join(lines) + "\n\n+: with changes that were not yet committed." * dirty
