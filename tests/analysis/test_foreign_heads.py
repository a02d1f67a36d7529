"""compare.py on a GPT-2 of another maker: its heads' measures are those of transformers' own attention patterns."""

import json
import shutil

import torch
import transformers

import compare
import errors
from analysis.pretrained import STORIES, of_pattern
from data.tales import stories


def test_planted_patterns_have_the_measures_they_were_made_with():
    n = 8
    previous, first, own = torch.eye(n).roll(-1, 1), torch.zeros(n, n), torch.eye(n)
    first[:, 0] = 1
    even = torch.ones(n, n).tril() / torch.arange(1, n + 1)[:, None]
    found = of_pattern(torch.stack([previous, first, own, even]))
    query = torch.arange(2.0, n)
    assert found["previous"][:3].tolist() == [[1.0] * 6, [0.0] * 6, [0.0] * 6]
    assert found["first"][:3].tolist() == [[0.0] * 6, [1.0] * 6, [0.0] * 6]
    assert found["self"][:3].tolist() == [[0.0] * 6, [0.0] * 6, [1.0] * 6]
    assert found["distance"][:3].tolist() == [[1.0] * 6, query.tolist(), [0.0] * 6]
    assert torch.allclose(found["distance"][3], query / 2)
    assert torch.allclose(found["entropy"][3], (query + 1).log())
    assert found["entropy"][:3].abs().max() == 0


def test_compare_shows_the_heads_of_a_gpt2(trained, tmp_path, capsys):
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
    assert errors.guard("compare.py", compare.main, [str(folder), "--json"]) == 0
    shown = next(iter(json.loads(capsys.readouterr().out).values()))
    previous, distance, n = torch.zeros(2, 4), torch.zeros(2, 4), 0
    for story in stories(STORIES, seed=1):
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
    assert errors.guard("compare.py", compare.main, [str(folder)]) == 0
    out = capsys.readouterr().out
    assert "H = 4" in out
    assert len([line for line in out.splitlines() if line.strip().startswith(("0 ", "1 "))]) == 8
