"""The terminal's view of a report: tables that fit the window, and sentences."""

import textwrap
from collections.abc import Callable, Sequence

from analysis.summary import p_text


def report_text(report: dict, width: int) -> str:
    """The whole report (as in report.json) as text of at most `width` columns, where no single word is longer."""
    parts = [bullets(report["notes"], width)]
    for study in report["studies"]:
        parts += [headline(study, width), bullets(study["notes"], width)]
        for group in study["groups"]:
            if len(study["groups"]) > 1:
                parts.append(f"learning_rate {group['learning_rate']:g}, weight_decay {group['weight_decay']:g}")
            parts += group_parts(group, width)
        if not study["groups"]:
            parts.append("No finished run yet: nothing to compare. Run train.py on the same configuration to go on.")
    return "\n\n".join(part for part in parts if part)


def headline(study: dict, width: int) -> str:
    size = f", {study['parameters']:,} parameters whatever H" if study["parameters"] else ""
    text = (
        f"{study['name']}: D = {study['n_embd']}, {study['n_layer']} layers, context {study['block_size']} tokens{size}"
    )
    return textwrap.fill(text, width)


def group_parts(group: dict, width: int) -> list[str]:
    heads = group["heads"]
    columns = ["H", "d_h", "seeds", "final loss", "95 % CI", "best loss", "at iteration", "bits/byte", "perplexity"]
    rows = [
        [
            str(row["n_head"]),
            str(row["head_size"]),
            str(len(row["seeds"])),
            plus_minus(row["final_loss"]["mean"], row["final_loss"]["standard_deviation"]),
            interval(row["final_loss"]["mean"], row["final_loss"]["interval"]),
            f"{row['best_loss']['mean']:.4f}",
            "–".join(dict.fromkeys(map(str, row["best_iters"]))),
            decimals(row["final_bits_per_byte"] and row["final_bits_per_byte"]["mean"]),
            f"{row['final_perplexity']['mean']:.3f}",
        ]
        for row in heads
    ]
    several = any(len(row["seeds"]) > 1 for row in heads)
    legend = "Validation loss in nats per token" + (", mean ± standard deviation over seeds." if several else ".")
    return [
        part
        for part in (
            table(columns, rows, width) + "\n" + textwrap.fill(legend, width),
            differences_text(group, width),
            relations_text(heads, bool(group["comparisons"]), width),
            textwrap.fill(group["sentence"], width),
        )
        if part
    ]


def differences_text(group: dict, width: int) -> str:
    """Differences to the reference; empty where there is nothing to compare."""
    if not group["differences"]:
        return ""
    columns = ["H", f"loss − loss at H = {group['reference']}", "95 % CI", "p", "p (Holm)", "seeds", "told apart"]
    rows = [
        [
            str(row["n_head"]),
            signed(row["mean"]),
            interval(row["mean"], row["interval"], signed),
            p_only(row["p"]),
            p_only(row["p_holm"]),
            str(len(row["seeds"])),
            "–" if row["p_holm"] is None else "yes" if row["different"] else "no",
        ]
        for row in group["differences"]
    ]
    count = group["comparisons"]
    if not count:
        legend = "Within one seed: no interval and no test, nothing can be concluded from it."
    elif group["chosen_by_data"]:
        legend = (
            f"Paired by seed. The data chose the reference, so p and the intervals are corrected for all {count} pairs "
            "of head counts. A reference named before looking at results (--reference H) needs fewer comparisons."
            if count > 1
            else "Paired by seed: paired t-test and t interval."
        )
    else:
        legend = f"Paired by seed. p (Holm) is corrected for {count} comparisons; each interval stands for itself."
    return table(columns, rows, width) + "\n" + textwrap.fill(legend, width)


def relations_text(heads: Sequence[dict], tested: bool, width: int) -> str:
    names = list(heads[0]["relations"])
    if not names:
        return ""
    rows = [
        [
            str(row["n_head"]),
            *(plus_minus(row["relations"][n]["mean"], row["relations"][n]["standard_deviation"]) for n in names),
        ]
        for row in heads
    ]
    legend = "Final validation loss on words of each relation"
    legend += "; report.html tests their differences." if tested else "."
    return table(["H", *(name.replace("_", "-") for name in names)], rows, width) + "\n" + textwrap.fill(legend, width)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> str:
    """Right-aligned columns, two spaces apart; what is wider than `width` goes on below, with the first column again.

    A single column wider than the window keeps its width.
    """
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    blocks, block = [], [0]
    for i in range(1, len(columns)):
        if len(block) > 1 and sum(widths[j] + 2 for j in [*block, i]) - 2 > width:
            blocks.append(block)
            block = [0]
        block.append(i)
    blocks.append(block)
    texts = []
    for block in blocks:
        lines = ["  ".join(row[i].rjust(widths[i]) for i in block) for row in [columns, *rows]]
        lines.insert(1, "  ".join("─" * widths[i] for i in block))
        texts.append("\n".join(lines))
    return "\n\n".join(texts)


def bullets(notes: Sequence[str], width: int) -> str:
    return "\n".join(textwrap.fill(n, width, initial_indent="- ", subsequent_indent="  ") for n in notes)


def decimals(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}".replace("-", "−")


def plus_minus(mean: float, deviation: float | None) -> str:
    return decimals(mean) if deviation is None else f"{mean:.4f} ± {deviation:.4f}"


def interval(mean: float | None, half_width: float | None, show: Callable[[float], str] = decimals) -> str:
    return "–" if half_width is None else f"{show(mean - half_width)} … {show(mean + half_width)}"


def p_only(p: float | None) -> str:
    return "–" if p is None else p_text(p).removeprefix("p ").removeprefix("= ")
