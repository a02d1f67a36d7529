"""compare.py on a GPT-2 of another maker: its heads' measures are those of transformers' own attention patterns."""

import base64
import json
import re
import shutil

import torch
import transformers

import compare
import errors
from analysis.measure.texts import StoryText
from data.tales import stories


def test_compare_shows_the_heads_of_a_gpt2(trained, tmp_path, capsys, monkeypatch, undrawn):
    torch.manual_seed(1)
    config = transformers.GPT2Config(
        n_layer=2,
        n_head=4,
        n_embd=32,
        n_positions=64,
        vocab_size=300,
        initializer_range=0.5,
        attn_implementation="eager",
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    folder = tmp_path / "gpt2"
    model.save_pretrained(folder)
    shutil.copy(trained.runs[0].path / "tokenizer.json", folder)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    capsys.readouterr()
    assert errors.guard("compare.py", compare.main, [str(folder), "--out", str(tmp_path / "out"), "--json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)["studies"]
    worth, shown = (shown["sections"][name]["H4-seed0"] for name in ("ablation", "heads"))
    previous, distance, n = torch.zeros(2, 4), torch.zeros(2, 4), 0
    for story in stories(StoryText.STORIES["heads"], seed=1):
        ids = tokenizer(story.text, return_tensors="pt").input_ids[:, :64]
        with torch.no_grad():
            patterns = model(ids, output_attentions=True).attentions
        for query in range(2, ids.shape[1]):
            n += 1
            for layer, pattern in enumerate(patterns):
                for key in range(query + 1):
                    distance[layer] += pattern[0, :, query, key] * (query - key)
                previous[layer] += pattern[0, :, query, query - 1]
    assert torch.allclose(torch.tensor(shown["previous"]), previous / n, atol=1e-4)
    assert torch.allclose(torch.tensor(shown["distance"]), distance / n, rtol=1e-3)
    assert (previous / n).std() > 0.001
    losses = []
    for story in stories(StoryText.STORIES["ablation"], seed=1):
        ids = tokenizer(story.text, return_tensors="pt").input_ids[:, :65]
        with torch.no_grad():
            logits = model(ids[:, :-1]).logits[0]
            losses += torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none").tolist()
    assert worth["tokens"] == len(losses)
    assert abs(worth["loss"] - sum(losses) / len(losses)) < 1e-4
    page = (tmp_path / "out" / "report.html").read_text()
    explorer = json.loads(re.search(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)[1])
    ids = tokenizer(next(stories(1, seed=1)).text, return_tensors="pt").input_ids[:, :64]
    assert explorer["passages"][0] == [tokenizer.decode([token]) for token in ids[0]]
    with torch.no_grad():
        patterns = model(ids, output_attentions=True).attentions
    row, column = torch.tril_indices(*patterns[0].shape[-2:])
    for layer, packed in enumerate(explorer["runs"][0]["patterns"][0]):
        drawn = torch.frombuffer(bytearray(base64.b64decode(packed)), dtype=torch.uint8) / 255
        assert torch.allclose(drawn, patterns[layer][0][:, row, column].flatten(), atol=0.003)
    monkeypatch.chdir(tmp_path)
    assert errors.guard("compare.py", compare.main, [str(folder), "--quick"]) == 0
    out = capsys.readouterr().out
    assert len([line for line in out.splitlines() if line.strip().startswith(("1 ", "2 "))]) == 8
    page = (tmp_path / "runs" / "heads-gpt2" / "report.html").read_text()
    assert "H = 4" in page
    assert "what was trained" not in page.lower()
    assert errors.guard("compare.py", compare.main, [str(folder), str(trained.path)]) == 2
    assert "one or the other" in capsys.readouterr().err
