"""Several studies on one page: how the effect of H depends on the setting in which they differ."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.report.figures import BLUE, panels, style
from analysis.report.loss import ends
from analysis.report.section import Part, Picture, Section, Table
from analysis.report.words import listed, number, p_only, signed
from analysis.sentences import rate_text
from analysis.summary import told_of

TITLE = "How does it depend on the setting?"
WORDS = {
    "model.n_embd": "D",
    "model.block_size": "T",
    "model.n_layer": "layers",
    "train.max_iters": "iterations",
    "train.batch_size": "batch size",
    "data.source": "corpus",
    "data.path": "corpus",
}


def overview(parts: Sequence[Part]) -> list[Part]:
    """The overview of several studies as a part of its own; none where fewer than two have a verdict."""
    compared = [part for part in parts if verdict_of(part.summary)]
    if len(compared) < 2:
        return []
    name, labels = setting(compared)
    of = dict(zip(labels, compared, strict=True))
    verdicts = {label: verdict_of(of[label].summary) for label in ascending(labels)}
    rates = {label: rate_of(of[label].summary) for label in verdicts}
    section = Section("overview", TITLE, [method(name, rates)], pictures(name, verdicts), [table(name, verdicts)])
    section.data.update({"setting": name, "studies": [{"label": label} | row for label, row in verdicts.items()]})
    lost = [part.name for part in parts if part not in compared]
    notes = [f"Not in the overview, as no trend in H could be estimated there: {listed(lost)}"] * bool(lost)
    headline = "How the effect of H depends on what the studies differ in"
    return [Part("Overview", headline, [sentence(name, verdicts)], [], [section], notes=notes)]


def verdict_of(summary: dict) -> dict | None:
    """The comparison of a study that counts: each H at its own learning rate where rates were swept, else the setting
    that its report tells all else of."""
    if not summary["groups"]:
        return None
    verdict = row_of(summary)["verdict"]
    return verdict if verdict and verdict["trend"] and verdict["trend"]["estimate"] is not None else None


def row_of(summary: dict) -> dict:
    return summary["tuned"][0] if summary["tuned"] else told_of(summary["groups"])


def rate_of(summary: dict) -> str:
    """The learning rate that `verdict_of` is at, and the weight decay where several were swept."""
    row = row_of(summary)
    rate = "each H at its own best learning rate"
    if not summary["tuned"]:
        rate = f"at learning rate {rate_text(row['learning_rate'])}"
    several = len({group["weight_decay"] for group in summary["groups"]}) > 1
    return rate + f" with weight decay {row['weight_decay']:g}" * several


def setting(parts: Sequence[Part]) -> tuple[str, list[str]]:
    """What the studies differ in, in a word, and each study's value of it; their names where it is more than one thing.

    A corpus that differs has another checksum, whatever key makes it differ.
    """
    held = [part.summary["settings"] for part in parts]
    keys = sorted({key for of in held for key in of})
    differ = [key for key in keys if any(of.get(key) != held[0].get(key) for of in held)]
    keys = [key for key in differ if key != "data_hash"] or differ
    labels = [str(of.get(keys[0])) for of in held] if len(keys) == 1 else []
    if len(set(labels)) < len(parts) or keys == ["data_hash"]:
        return "study", [part.name for part in parts]
    return WORDS.get(keys[0], keys[0]), labels


def ascending(labels: Sequence[str]) -> list[str]:
    """By value where all of them are numbers, else as they are."""
    try:
        return sorted(labels, key=float)
    except ValueError:
        return list(labels)


def sentence(name: str, verdicts: dict[str, dict]) -> str:
    """The trend of each study."""
    told = []
    for label, verdict in verdicts.items():
        trend = verdict["trend"]
        sure = "" if trend["sure"] else ", not sure"
        told.append(f"{signed(trend['estimate'])} at {place(name, label)} (95 % interval {ends(trend)}{sure})")
    return f"For each doubling of H the final validation loss changes by {listed(told)} nats per token."


def place(name: str, label: str) -> str:
    return label if name == "study" else f"{name} = {label}"


def method(name: str, rates: dict[str, str]) -> str:
    """How the studies are compared. rates: each one's learning rate, in words."""
    at, *others = dict.fromkeys(rates.values())
    each = "; ".join(f"{place(name, label)}, {rate}" for label, rate in rates.items())
    at, more = ("at its own learning rates", f" The learning rates: {each}.") if others else (at, "")
    by = "the studies" if name == "study" else name
    return (
        f"Each study is compared within itself, {at}, seeds paired, with intervals that hold at once for its own "
        f"questions with 95 %. How they change with {by} is a description: no test is made between studies.{more}"
    )


def pictures(name: str, verdicts: dict[str, dict]) -> list[Picture]:
    reference = named(verdicts)
    at = "the smallest H that every study has" if reference is None else f"H = {reference}"
    caption = (
        f"Left: loss − loss at {at}, within seeds, with simultaneous 95 % intervals. "
        "Right: the trend, nats per token for each doubling of H; filled where it is sure."
    )
    return [Picture("overview", "", caption, lambda: draw(name, verdicts))]


def named(verdicts: dict[str, dict]) -> int | None:
    """The reference that was named for all studies."""
    return next(iter(verdicts.values()))["reference"]


def draw(name: str, verdicts: dict[str, dict]) -> Figure:
    """The effect of H against the setting, or study by study where several differ; the trends as a forest plot."""
    figure, (left, right) = panels(2, 2, max(2.4, 0.6 + 0.25 * len(verdicts)))
    effects(left, verdicts, name == "study")
    reference = named(verdicts)
    label = f"loss − loss at {'the smallest H' if reference is None else f'H = {reference}'}\n(nats per token)"
    left.set(**{"xlabel": label, "ylabel": name} if name == "study" else {"xlabel": name, "ylabel": label})
    if name == "study":
        left.xaxis.set_major_locator(MaxNLocator(4))
    for row, verdict in enumerate(verdicts.values()):
        trend = verdict["trend"]
        low, high = (trend[end] if trend[end] is not None else trend["estimate"] for end in ("low", "high"))
        error = [[trend["estimate"] - low], [high - trend["estimate"]]]
        face = BLUE if trend["sure"] else "white"
        right.errorbar(trend["estimate"], row, xerr=error, fmt="s", color=BLUE, markerfacecolor=face, capsize=2.5)
    right.axvline(0, color="0.3", linewidth=0.8)
    right.set_yticks(range(len(verdicts)), list(verdicts))
    right.xaxis.set_major_locator(MaxNLocator(4))
    right.set(ylim=(len(verdicts) - 0.5, -0.5), xlabel="nats per token for each doubling of H", ylabel=name)
    return figure


def effects(axes: Axes, verdicts: dict[str, dict], apart: bool) -> None:
    """A line for each H that is compared with the reference, or the smallest one where none was named, over the
    studies; apart: a row for each, no line."""
    found: dict[int, dict[int, tuple[float, float, float]]] = {}  # estimate, and how far the interval goes each way
    heads = [{h for pair in v["pairs"] for h in (pair["n_head"], pair["reference"])} for v in verdicts.values()]
    reference = named(verdicts)
    base = min(set.intersection(*heads), default=None) if reference is None else reference
    for index, verdict in enumerate(verdicts.values()):
        for pair in verdict["pairs"]:
            if base in (pair["n_head"], pair["reference"]) and pair["estimate"] is not None:
                sign, other = (1, pair["n_head"]) if pair["reference"] == base else (-1, pair["reference"])
                ends_ = [pair[end] for end in ("low", "high") if pair["low"] is not None] or [pair["estimate"]] * 2
                below, above = sorted(sign * (end - pair["estimate"]) for end in ends_)
                found.setdefault(other, {})[index] = (sign * pair["estimate"], -below, above)
    for row, (h, points) in enumerate(sorted(found.items())):
        shift = (0.2 if apart else 0.08) * (row - (len(found) - 1) / 2)  # bars beside each other
        places = [index + shift for index in points]
        means, *ways = zip(*points.values(), strict=True)
        looks = style(row, len(found)) | {"elinewidth": 0.8, "capsize": 1.5, "label": f"H = {h}"}
        if apart:
            axes.errorbar(means, places, xerr=ways, **looks | {"linestyle": "none"})
        else:
            axes.errorbar(places, means, ways, **looks)
    if apart:
        axes.axvline(0, color="0.3", linewidth=0.8)
        axes.set_yticks(range(len(verdicts)), list(verdicts))
        axes.set_ylim(len(verdicts) - 0.5, -0.5)
    else:
        axes.axhline(0, color="0.3", linewidth=0.8)
        axes.set_xticks(range(len(verdicts)), list(verdicts))
    if found:
        axes.legend()


def table(name: str, verdicts: dict[str, dict]) -> Table:
    """A row a study: its trend, and the head counts that can be the best."""
    rows = []
    for label, verdict in verdicts.items():
        trend = verdict["trend"]
        open_ = [str(h) for h in verdict["best"] if h != verdict["lowest"]]
        row = [label, signed(trend["estimate"]), ends(trend), p_only(trend["p"]), str(verdict["lowest"])]
        row.append(number(verdict["lowest_loss"]))
        rows.append([*row, ", ".join(open_) or "none", number(verdict["standard_deviation"]), str(verdict["seeds"])])
    head = [name, "for each doubling of H", "95 % CI", "p", "lowest H", "lowest loss", "not excluded as the best"]
    brief = [column for column in head if column != "lowest loss"]
    caption = "The effect of H on the final validation loss (nats per token), a row a study."
    return Table("overview", caption, [*head, "residual SD", "seeds"], rows, brief)
