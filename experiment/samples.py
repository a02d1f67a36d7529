"""Sampled text of all head counts: drawn at once from one stack, laid side by side."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

from experiment.loaded import LoadedRun, Runs
from experiment.sampling import Sampling
from experiment.texts import continuations, prompt_tokens, text_of
from terminal import side_by_side


@dataclass
class Samples:
    """Texts (prompt left out) by run and sample, and how they were drawn."""

    prompt: str
    runs: list[LoadedRun]
    texts: list[list[str]]
    """texts[r][i]: sample i of run r."""
    sampling: Sampling

    @classmethod
    def draw(
        cls, runs: Runs, prompt: str | None, sampling: Sampling, progress: Callable[[int], object] = lambda n: None
    ) -> "Samples":
        """Sample from every one of `runs` with the same prompt, None or "" for the start of a document, and numbers.

        Raises InputError where the tokenizer does not know the prompt, or there is no room.
        """
        loaded = list(runs.values())
        tokenizer, prompt = loaded[0].tokenizer, prompt or ""
        tokens = prompt_tokens(tokenizer, prompt, loaded[0].start)
        drawn = continuations(runs.stack(), tokenizer, tokens, sampling, progress)
        texts = [[text_of(tokenizer, sample, sampling.stop) for sample in run] for run in drawn]
        return cls(prompt, loaded, texts, sampling)

    def as_dict(self) -> dict:
        """Plain values: prompt, settings, and for each run what sets it apart and its texts."""
        return {
            "prompt": self.prompt,
            "settings": asdict(self.sampling),
            "runs": [
                {"name": run.name, **run.axes, "texts": texts} for run, texts in zip(self.runs, self.texts, strict=True)
            ],
        }


def page(samples: Samples, width: int) -> str:
    """The samples for a terminal `width` cells wide: columns where every H has room, else one below the other."""
    titles = [f"H = {run.n_head}  ({run.name})" for run in samples.runs]
    parts = []
    for i in range(len(samples.texts[0])):
        if len(samples.texts[0]) > 1:
            parts.append(f"── sample {i + 1} ".ljust(width, "─"))
        parts.append(side_by_side(titles, [samples.prompt + of_run[i] for of_run in samples.texts], width))
    return "\n".join(parts)
