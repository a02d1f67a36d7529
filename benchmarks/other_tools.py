"""Does what other people's tools make of a run's folder equal what this project makes of it?

    python -m benchmarks.other_tools runs/quickstart/h04-seed0

transformers: logits and greedy text. TransformerLens (pip install transformer_lens): attention patterns of every layer
and head. lm-eval (pip install lm_eval): bits per byte of a local task. A tool that is not installed is left out.
"""

import argparse
import importlib.util
import json
import math
import sys
import tempfile
from pathlib import Path

import torch

from data.tales import stories
from errors import InputError, WorkError, guard
from experiment.loaded import LoadedRun
from headcount import load

CLOSE = 1e-4
TEXTS = 8
PROMPT = "Once upon a time"


def with_transformers(run: LoadedRun, path: Path, texts: list[str]) -> dict[str, float]:
    """Largest difference of a logit; 1 where the greedy text is not the same."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

    model, tokenizer = AutoModelForCausalLM.from_pretrained(path).eval(), AutoTokenizer.from_pretrained(path)
    worst = 0.0
    for text in texts:
        ids = tokenizer(text, return_tensors="pt").input_ids[:, -run.config.block_size :]
        with torch.no_grad():
            worst = max(worst, (model(ids).logits[0] - run.logits(text)).abs().max().item())
    length = run.config.block_size // 2
    theirs = pipeline("text-generation", model=str(path))(PROMPT, max_new_tokens=length, do_sample=False)
    same = theirs[0]["generated_text"] == run.generate(PROMPT, length, greedy=True)[0]
    return {"logits": worst, "greedy text": 0.0 if same else 1.0}


def with_transformer_lens(run: LoadedRun, path: Path, texts: list[str]) -> dict[str, float]:
    """Largest difference of an attention weight, over all layers and heads."""
    from transformer_lens.model_bridge import TransformerBridge

    bridge = TransformerBridge.boot_transformers(str(path), device="cpu", dtype=torch.float32)
    worst = 0.0
    for text in texts:
        ids = torch.tensor([run.tokenizer.encode(text)[-run.config.block_size :]])
        _, cache = bridge.run_with_cache(ids)
        seen = run.run_with_cache(text)[1]
        for layer in range(run.config.n_layer):
            theirs = cache[f"blocks.{layer}.attn.hook_pattern"][0]
            worst = max(worst, (theirs - seen[f"h.{layer}.attn.pattern"]).abs().max().item())
    return {"attention patterns": worst}


def with_lm_eval(run: LoadedRun, path: Path, texts: list[str]) -> dict[str, float]:
    """Difference in bits per byte of the texts, each after an end-of-text token."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    nats = 0.0
    for text in texts:
        ids = [run.tokenizer.eot, *run.tokenizer.encode(text)][: run.config.block_size]
        with torch.no_grad():
            logits = run.model(torch.tensor(ids)[None, None])[0, 0]
        nats += torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="sum").item()
    ours = nats / math.log(2) / sum(len(text.encode("utf-8")) for text in texts)
    with tempfile.TemporaryDirectory() as folder:
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        (Path(folder) / "texts.jsonl").write_text(lines, encoding="utf-8")
        task = {
            "task": "headcount_texts",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(Path(folder) / "texts.jsonl")}},
            "test_split": "test",
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{text}}",
            "metric_list": [{"metric": "bits_per_byte"}],
        }
        (Path(folder) / "headcount_texts.yaml").write_text(json.dumps(task), encoding="utf-8")
        result = lm_eval.simple_evaluate(
            model="hf",
            model_args={"pretrained": str(path), "dtype": "float32", "backend": "causal"},
            tasks=["headcount_texts"],
            task_manager=TaskManager(include_path=folder, include_defaults=False),
            device="cpu",
            bootstrap_iters=0,
        )
    theirs = result["results"]["headcount_texts"]["bits_per_byte,none"]
    print(f"lm-eval: {theirs:.6f} bits per byte, here {ours:.6f}")
    return {"bits per byte": abs(theirs - ours)}


TOOLS = {"transformers": with_transformers, "transformer_lens": with_transformer_lens, "lm_eval": with_lm_eval}


def main(argv: list[str]) -> None:
    """Print the largest differences. Raises WorkError where one is above CLOSE."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a run's folder, whose tokenizer knows the letters of the tales")
    path = parser.parse_args(argv).run
    runs = load(path.parent, "cpu")
    if path.name not in runs:
        raise InputError(f"{path}: not a run's folder; give one such as runs/quickstart/h04-seed0")
    run = runs[path.name]
    room = run.config.block_size - 1  # for an end-of-text token before the text
    texts = [run.tokenizer.decode(run.tokenizer.encode(story.text)[:room]) for story in stories(TEXTS, seed=1)]
    apart = []
    for name, compare in TOOLS.items():
        if importlib.util.find_spec(name) is None:
            print(f"{name}: not installed, left out")
            continue
        if name == "lm_eval" and run.tokenizer.eot is None:
            print("lm_eval: the tokenizer has no end-of-text for its texts to begin with, left out")
            continue
        for what, difference in compare(run, path, texts).items():
            print(f"{name}: {what} differ by at most {difference:.2g}")
            apart += [f"{name}: {what}"] if not difference <= CLOSE else []
    if apart:
        raise WorkError(f"more than {CLOSE} apart: {', '.join(apart)}")


if __name__ == "__main__":
    sys.exit(guard("other_tools.py", main, sys.argv[1:]))
