"""A verdict in plain words, which say no more than its tests allow.

Every function takes a verdict and returns a sentence, or the empty text where there is nothing to say.
"""

from collections.abc import Collection, Iterable, Sequence

from analysis.report.words import listed, number, p_text, signed
from analysis.statistics import MOST_SEEDS, Interaction, Pair, Test, Tuned, Verdict

UNIT = "nats per token"


def sentences(verdict: Verdict, mean: float, place: str) -> list[str]:
    """The answers in the order of the questions.

    mean: loss at the head count with the lowest one; place: what the comparison holds for, "D = 128, learning rate
    1e-3".
    """
    if len(verdict.n_head) == 1:
        return [f"At {place}, only H = {verdict.n_head[0]} was run: there is nothing to compare."]
    if not verdict.tested:
        seeds = max((len(pair.seeds) for pair in verdict.pairs), default=0)
        why = "one common seed" if seeds else "no common seed"
        return [
            f"At {place}, H = {verdict.lowest} has the lowest final validation loss, {mean:.4f} {UNIT}, but nothing "
            f"can be concluded from {why}: train with four or so (--sweep.seed 0,1,2,3)."
        ]
    two = len(verdict.n_head) == 2  # the trend of two is their difference
    parts = [two_heads(verdict, place), best(verdict, mean)] if two else [trend(verdict, place), shape(verdict)]
    parts += [] if two else [best(verdict, mean), differing(verdict)]
    return [part for part in [*parts, same(verdict), unsettled(verdict), untested(verdict)] if part]


def two_heads(verdict: Verdict, place: str) -> str:
    """The one difference that there is."""
    (pair,) = verdict.pairs
    over, size = f"over {len(pair.seeds)} seeds", f"{abs(pair.estimate):.4f} {UNIT}"
    if pair.sign:
        named = f"H = {pair.n_head} is {pair.answer} than H = {pair.reference} by {size}"
        return f"At {place}, {named} ({interval(pair, pair.sign)}, {p_text(pair.p)}), {over}."
    named = f"no difference of H = {pair.n_head} to H = {pair.reference} is sure: {signed(pair.estimate)} {UNIT}"
    return f"At {place}, {named} ({interval(pair)}, {p_text(pair.p)}), {over}."


def trend(verdict: Verdict, place: str) -> str:
    """Whether the loss changes with H, and which way."""
    test = verdict.trend
    if test is None or not test.tested:
        return f"At {place}, no trend in H can be tested: the head counts have fewer than two common seeds."
    seeds = f"{len(test.seeds)} seeds"
    if test.sign:
        way = "rises" if test.sign > 0 else "falls"
        by = f"{abs(test.estimate):.4f} {UNIT} ({interval(test, test.sign)}, {p_text(test.p)})"
        return f"At {place}, the final validation loss {way} by {by} for each doubling of H, over {seeds}."
    return (
        f"At {place}, no trend in H is sure: the final validation loss changes by {signed(test.estimate)} {UNIT} "
        f"({interval(test)}, {p_text(test.p)}) for each doubling of H, over {seeds}."
    )


def shape(verdict: Verdict) -> str:
    """A curvature that is sure."""
    test = verdict.curvature
    if test is None or not test.sign:
        return ""
    if test.sign > 0 and verdict.turn:
        at = f"{verdict.turn:.0f}" if verdict.turn > 10 else f"{verdict.turn:.2g}"
        return f"It bends upwards ({p_text(test.p)}): a parabola in log2 H is lowest near H = {at}."
    return f"It bends {'upwards' if test.sign > 0 else 'downwards'} in log2 H ({p_text(test.p)})."


def best(verdict: Verdict, mean: float) -> str:
    """The lowest mean, and what else could be the best."""
    level = f"H = {verdict.lowest} has the lowest, {mean:.4f}"
    others = [h for h in verdict.best if h != verdict.lowest]
    if others:
        return f"{level}; {heads(others)} cannot be excluded as the best."
    everything = verdict.reference is None and len(verdict.n_head) > 2 and not untested(verdict)
    return f"{level}{', and every other H is worse' if everything and verdict.lowest in verdict.best else ''}."


def differing(verdict: Verdict) -> str:
    """Pairs of which one is worse: first those with the lowest head count (or the reference), with their size."""
    base = verdict.lowest if verdict.reference is None else verdict.reference
    told = []
    for way, sign in (("worse", 1), ("better", -1)):
        sure = [pair for pair in verdict.against(base) if pair.sign == sign]
        if sure:
            first, *rest = [f"H = {p.n_head} by {abs(p.estimate):.4f}" for p in sure]
            within = interval(sure[0], sign) + ", " if not rest else ""
            p = max(pair.p for pair in sure)
            told.append(
                f"{listed([first.replace(' by', f' is {way} by', 1), *rest])} ({within}{p_text(p, bool(rest))})"
            )
    texts = [f"Compared with H = {base}, {'; '.join(told)}."] if told else []
    if len(verdict.pairs) > 2 and all(pair.sign for pair in verdict.pairs):
        return " ".join([*texts, "Every two head counts differ." if verdict.reference is None else ""]).strip()
    worse = {}
    for pair in verdict.pairs:
        if pair.sign and base not in (pair.n_head, pair.reference):
            high, low = (pair.n_head, pair.reference) if pair.sign > 0 else (pair.reference, pair.n_head)
            worse.setdefault(high, []).append(low)
    others = [f"H = {high} is worse than {heads(low)}" for high, low in sorted(worse.items())]
    return " ".join(texts + [f"{'; '.join(others)}."] * bool(others))


def same(verdict: Verdict) -> str:
    alike = [pair for pair in verdict.pairs if pair.answer == "same"]
    return f"The same to within {verdict.margin:g} {UNIT}: {listed(both(alike))}." if alike else ""


def unsettled(verdict: Verdict) -> str:
    """Pairs that are neither, and the seeds that would settle the easiest and all of them."""
    left = [pair for pair in verdict.open if pair.tested]
    if not left:
        plain = untested(verdict) or all(pair.sign for pair in verdict.pairs)
        return "" if plain else "Every pair is settled."
    which = listed(both(left)) if len(left) < 5 else f"{len(left)} of {len(verdict.pairs)} pairs"
    return f"Not settled: {which}; {advice([verdict.seeds_needed(pair) for pair in left])}."


def advice(counts: Sequence[int | None]) -> str:
    """How many seeds would do; None is over MOST_SEEDS."""
    known = [count for count in counts if count is not None]
    over = f"{MOST_SEEDS:,} seeds would not settle"
    if not known:
        return f"{over} {'it' if len(counts) == 1 else 'them'}"
    told = f"{min(known):,}" if min(known) == max(known) else f"{min(known):,} to {max(known):,}"
    some = f", but {over} {len(counts) - len(known)} of them" if len(known) < len(counts) else ""
    return f"about {told} seeds would settle {'it' if len(counts) == 1 else 'them'}{some}"


def untested(verdict: Verdict) -> str:
    alone = [h for h in verdict.n_head if not any(p.tested for p in verdict.pairs if h in (p.n_head, p.reference))]
    return f"Not tested: {heads(alone)}, with fewer than two common seeds." if alone else ""


def tuned_place(tuned: Tuned) -> str:
    """The learning rates that a tuned comparison holds for."""
    each = by_rate(tuned.best.items())
    which = listed(each) if len(each) > 1 else f"{rate_text(next(iter(tuned.best.values())))} for all"
    return f"the learning rate that is best for each H ({which})"


def by_rate(pairs: Iterable[tuple[int, float]]) -> list[str]:
    """1e-3 for H = 1 and 4, for each rate of pairs (H, learning rate)."""
    of_rate = {}
    for h, rate in pairs:
        of_rate.setdefault(rate, []).append(h)
    return [f"{rate_text(rate)} for {heads(of)}" for rate, of in sorted(of_rate.items())]


def not_open(tuned: Tuned, diverged: Collection[tuple[int, float]] = ()) -> str:
    """The rates that a head count cannot have, as seeds are missing there.

    diverged: (H, learning rate) where one of them diverged, so that training does not open the rate.
    """
    closed = [(h, rate) for h, rates in tuned.left_out.items() for rate in rates]
    train, lost = (by_rate(of for of in closed if (of in diverged) == sort) for sort in (False, True))
    told = "Not open to choice, as runs"
    texts = [f"{told} are missing or unfinished there: {'; '.join(train)}; train those, too."] * bool(train)
    return " ".join(texts + [f"{told} diverged there: {'; '.join(lost)}."] * bool(lost))


def edges(tuned: Tuned, rates: Sequence[float]) -> str:
    """A warning where the best rate of a head count ends the grid."""
    if not tuned.edges:
        return ""
    more = sorted({*rates, *(rate for of in tuned.edges.values() for rate in of)})
    which = "every H" if len(tuned.edges) == len(tuned.best) else heads(tuned.edges)
    return (
        f"The best learning rate of {which} ends the grid, so that a better one may lie beyond: add "
        f"--sweep.learning_rate {','.join(map(rate_text, more))}."
    )


def turning(found: Interaction | None, n_head: Sequence[int]) -> str:
    """Whether the trend in H depends on the learning rate. n_head: that the verdict is over."""
    if found is None:
        return ""
    slopes = listed([f"{signed(test.estimate)} at {rate_text(rate)}" for rate, test in found.trends.items()])
    each = "for each doubling of H"
    if set(found.n_head) != set(n_head):
        each += f" (over {heads(found.n_head)})"
    if found.turns:
        low, high = map(rate_text, found.turns)
        return f"The sign turns between {low} and {high}: {each} the loss changes by {slopes}."
    if found.different:
        p = min(test.p for test in found.differences.values() if test.sign)
        return f"The trend depends on the learning rate ({p_text(p)}): {slopes} {each}."
    return f"That the trend depends on the learning rate is not sure: {slopes} {each}."


def interval(test: Test, sign: int = 0) -> str:
    """The 95 % interval; with a sign, that of the size of a change which is said in words."""
    low, high = (test.low, test.high) if sign >= 0 else (-test.high, -test.low)
    show = signed if not sign else number
    return f"95 % interval {show(low)} … {show(high)}"


def heads(n_head: Iterable[int]) -> str:
    """H = 1, 2 and 4"""
    return f"H = {listed(list(map(str, n_head)))}"


def both(pairs: Sequence[Pair]) -> list[str]:
    return [f"H = {pair.reference} and {pair.n_head}" for pair in pairs]


def rate_text(rate: float) -> str:
    """0.001 as 1e-3, which is also what the command line reads."""
    text = f"{rate:e}"
    digits, power = text.split("e")
    return f"{float(digits):g}e{int(power)}"
