"""What the programs do, from Python; and the README's example, as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from headcount import load, train
from tests.conftest import config_yaml, small_config

ROOT = Path(__file__).parent.parent.parent


def test_importing_is_light():
    code = "import sys; from headcount import load; assert not {'torch', 'numpy', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)


def test_runs_by_name_text_and_a_table_of_plain_rows(trained):
    runs = load(trained.path, "cpu")
    assert list(runs) == ["h01-seed0", "h01-seed1", "h04-seed0", "h04-seed1"]
    run = runs["h04-seed0"]
    texts = run.generate("The old", 12, num_samples=2, seed=3)
    assert len(texts) == 2
    assert texts[0] != texts[1]
    assert all(text.startswith("The old") for text in texts)
    assert texts == load(trained.path, "cpu")["h04-seed0"].generate("The old", 12, num_samples=2, seed=3)
    assert run.generate(max_new_tokens=3) != [""]
    rows = runs.metrics()
    last = rows[-1]
    assert (last["run"], last["n_head"], last["seed"], last["iter"]) == ("h04-seed1", 4, 1, 12)
    assert last["val_loss_semantic"] == trained.runs[-1].metrics()[-1]["val_loss_by_relation"]["semantic"]
    assert all(not isinstance(value, dict | list) for row in rows for value in row.values())
    with pytest.raises(KeyError, match="it has h01-seed0"):
        runs["h02-seed0"]
    assert runs.get("h02-seed0") is None


def test_running_with_a_cache_gives_the_hook_points_of_the_pass_that_gave_the_logits(trained):
    run = load(trained.path, "cpu")["h04-seed0"]
    text = "The old man had a boat."
    logits, seen = run.run_with_cache(text)
    n = len(run.tokenizer.encode(text))
    assert seen["h.0.attn.q"].shape == (4, n, 8)
    assert seen["h.0.attn.pattern"].shape == (4, n, n)
    assert torch.allclose(seen["h.0.attn.pattern"].sum(-1), torch.ones(4, n))
    z = seen["h.0.attn.pattern"] @ seen["h.0.attn.v"]
    assert torch.allclose(z, seen["h.0.attn.z"], atol=1e-6)
    concat = z.transpose(0, 1).flatten(1)  # (T, D)
    assert torch.allclose(concat @ run.model.h[0].attn.c_proj.weight[0], seen["h.0.attn.out"], atol=1e-5)
    assert torch.equal(run.logits(text), logits)


def test_training_from_python_is_train_py(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(config_yaml(small_config()))
    changes = {"train.max_iters": 2, "sweep.n_head": [2], "train.min_lr": None}
    runs = train(file, changes, tmp_path / "x", "cpu")
    assert list(runs) == ["h02-seed0", "h02-seed1"]
    assert runs.metrics()[-1]["iter"] == 2


def test_the_readmes_python_example_runs(tmp_path, trained, monkeypatch):
    """The block that begins with the import of load, in a folder whose runs/quickstart is a small sweep."""
    texts = [
        (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.part.md") if (ROOT / name).exists()
    ]
    blocks = [b for text in texts for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "import load" in b]
    assert blocks
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "quickstart").symlink_to(trained.path)
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(compile(block, "README", "exec"), {})
