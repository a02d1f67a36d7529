"""What the results page says of two published effects of the number of heads, by the losses. No number by hand.

Each function takes studies as report.json holds them, by name, and returns Markdown.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

from analysis.report.words import listed, number
from experiments.choice import regret
from experiments.findings import (
    CENTRE,
    Studies,
    alike,
    apart,
    difference,
    heads_of,
    markdown,
    standing,
    verdicts_of,
    with_ends,
)

SIZES = ("model.n_embd", "model.block_size", "train.batch_size")
"""What studies differ in whose heads are compared by size; the batch keeps the tokens of a step."""
ALL_OVERLAP = "all intervals overlap, so that a wider D takes the cost away is not shown"


def one_head(studies: Studies) -> str:
    """The fewest heads, and the most, against the head count with the lowest loss; one against eight, where trained."""
    verdicts = verdicts_of(studies)
    if not verdicts:
        return ""
    rows, eight, said = [], [], {"the fewest heads are": {}, "the most are": {}}
    both = [name for name, of in verdicts.items() if {standing(of, heads_of(of)[end]) for end in (0, -1)} == {"worse"}]
    for name, verdict in verdicts.items():
        heads, lowest = heads_of(verdict), verdict["lowest"]
        row = [name, str(lowest)]
        for who, h in zip(said, (heads[0], heads[-1]), strict=True):
            found = standing(verdict, h)
            said[who].setdefault(found, []).append(name)
            told = "" if h == lowest else f"{with_ends(difference(verdict, h, lowest))}, "
            row.append(f"H = {h}: {told}{found}")
        rows.append(row)
        if {1, 8} <= set(heads):
            eight.append(f"{with_ends(difference(verdict, 1, 8))} in {name}")
    where = [
        f"{who} {', '.join(f'{found} in {len(names)}' for found, names in kinds.items())}"
        for who, kinds in said.items()
    ]
    told = [f"Of {len(verdicts)} settings, against the H with the lowest loss, {'; '.join(where)}."]
    told.append(f"Both are surely worse than a head count in between in {listed(both) or 'no setting'}.")
    if eight:
        told.append(f"One head against eight, where both were trained: {listed(eight)}.")
    head = ["study", "lowest H", "fewest heads − lowest (95 % CI)", "most heads − lowest (95 % CI)"]
    return "\n\n".join([" ".join(told), markdown(head, rows)])


def bottleneck(studies: Studies) -> str:
    """The most heads against the lowest H, and the fewest, by a head's size d_h, in studies that differ in D or T."""
    if CENTRE not in studies:
        return ""
    rows: list[list[str]] = []
    lines: list[str] = []  # those of the centre's T
    costs: dict[str, dict[str, Mapping]] = {"the H with the lowest loss": {}, "the fewest heads": {}}
    like = {name: of for name, of in verdicts_of(studies).items() if alike(studies[name], studies[CENTRE], *SIZES)}
    size = {name: (studies[name]["block_size"], studies[name]["n_embd"]) for name in like}
    for name in sorted(like, key=lambda name: size[name]):
        verdict, (length, width) = like[name], size[name]
        few, many, lowest = heads_of(verdict)[0], heads_of(verdict)[-1], verdict["lowest"]
        row = [name, str(width), str(length), str(many), str(width // many), number(width / many / length, 3)]
        place = f"D = {width}"
        if length == studies[CENTRE]["block_size"]:
            lines.append(place)
        else:
            place += f" with T = {length}"
        for against, other in zip(costs, (lowest, few), strict=True):
            itself = {"estimate": 0.0, "low": 0.0, "high": regret(verdict, many), "sure": False, "itself": True}
            costs[against][place] = pair = difference(verdict, many, other) if many != other else itself
            row.append(f"H = {other}: {with_ends(pair) if many != other else 'the lowest'}")
        rows.append(row)
    head = ["study", "D", "T", "most heads H", "d_h = D / H", "d_h / T"]
    head += [f"loss − loss of {against} (95 % CI)" for against in costs]
    told = [text for against, of in costs.items() if (text := with_width(of, lines, against))]
    own = " The loss of the fewest heads changes with D, too: the second comparison is not the cost of many alone."
    own *= bool(told)
    return "\n\n".join([" ".join(told) + own, markdown(head, rows)]).strip() if rows else ""


def with_width(costs: Mapping[str, Mapping], widths: Sequence[str], against: str) -> str:
    """What the most heads cost, and whether that falls with D where T is alike, the centre's."""
    if len(widths) < 2:
        return ""
    falls = [f"{a} to {b}" for a, b in combinations(widths, 2) if apart(costs[a], costs[b])]
    rises = [f"{a} to {b}" for a, b in combinations(widths, 2) if apart(costs[b], costs[a])]
    told = [f"surely {way} from {listed(steps)}" for way, steps in (("falls", falls), ("rises", rises)) if steps]
    differ = f"that difference {' and '.join(told)}; other D's intervals overlap" if told else ALL_OVERLAP
    kinds: dict[str, list[str]] = {}
    for name, cost in costs.items():
        clear = "nothing that is sure" if not cost["sure"] else "more" if cost["estimate"] > 0 else "less"
        kinds.setdefault("nothing, being the lowest," if "itself" in cost else clear, []).append(name)
    parts = [f"{what} at {listed(names)}" for what, names in sorted(kinds.items())]
    return f"Against {against}, the most heads cost {'; '.join(parts)}. At the centre's T, {differ}."
