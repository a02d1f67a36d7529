"""A run goes out: what the libraries of Hugging Face make of our folders. Lost if these fail: the same text and ids."""

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from data.tokenizers import BPETokenizer, CharTokenizer
from data.tokenizers.export import hf_files
from headcount import load
from tests.conftest import small_config
from training.run import train_experiment


@pytest.mark.parametrize("kind", ["bpe", "char", "char of one document"])
def test_every_run_folder_works_in_transformers_as_it_stands(trained, tmp_path, kind):
    experiment, data = trained, {"tokenizer": "char"}
    if kind == "char of one document":  # and so without end-of-text
        (tmp_path / "text.txt").write_text("Once the old man had a boat. The boat was green.\n" * 50)
        data |= {"source": "text", "path": str(tmp_path / "text.txt")}
    if kind != "bpe":
        experiment = train_experiment(small_config(data=data), tmp_path / "x", "cpu")
    for run in experiment.runs:
        assert {"tokenizer.json", "tokenizer_config.json", "config.json"} <= {p.name for p in run.path.iterdir()}
    folder = experiment.path / "h04-seed1"
    ours = load(experiment.path, "cpu")["h04-seed1"]
    assert (ours.tokenizer.eot is None) == (kind == "char of one document")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    text = "The old man had a boat."
    ids = tokenizer(text).input_ids
    assert ids == ours.tokenizer.encode(text)
    assert len(ids) < 32
    with torch.no_grad():
        theirs = model(torch.tensor([ids])).logits[0]
    assert torch.allclose(ours.logits(text), theirs, atol=1e-4)
    pipeline = transformers.pipeline("text-generation", model=str(folder))
    written = pipeline("Once", max_new_tokens=20, do_sample=False)[0]["generated_text"]
    assert written == ours.generate("Once", 20, greedy=True)[0]
    assert len(written) > 10


def automatic(tokenizer, folder):
    """The tokenizer as AutoTokenizer has it."""
    folder.mkdir(exist_ok=True)
    for name, text in hf_files(tokenizer, 64).items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    """Ours and transformers' of each kind."""
    folder = tmp_path_factory.mktemp("tokenizers")
    words = "To be, or not to be: that's the question. 123 naïve café — 世界 🙂\r\n\t  end"
    made = {
        "bpe": BPETokenizer.train([words * 3], 300),
        "char": CharTokenizer.train([words, "another document\n"]),
        "char without end-of-text": CharTokenizer.train([words]),
    }
    return {kind: (ours, automatic(ours, folder / kind)) for kind, ours in made.items()}


@settings(max_examples=150, deadline=None)
@given(
    text=st.text(
        st.one_of(st.sampled_from("to be nt's\n\r\t 12é世🙂"), st.characters(exclude_categories=["Cs"])), max_size=40
    )
)
def test_bpe_ids_are_those_of_autotokenizer_for_any_text(tokenizers, text):
    ours, theirs = tokenizers["bpe"]
    ids = theirs(text).input_ids
    assert ids == ours.encode(text)
    assert theirs.decode(ids, skip_special_tokens=True) == text


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.sampled_from("To be, or not: 123 naïve café — 世界 🙂\r\n\t"), min_size=1, max_size=40))
def test_char_ids_are_those_of_autotokenizer(tokenizers, text):
    known = set("To be, or not to be: that's the question. 123 naïve café — 世界 🙂\r\n\t  end")
    text = "".join(c for c in text if c in known)
    for kind in ("char", "char without end-of-text"):
        ours, theirs = tokenizers[kind]
        ids = theirs(text).input_ids
        assert ids == ours.encode(text)
        assert theirs.decode(ids, skip_special_tokens=True) == text
        assert len(theirs) == ours.vocab_size
        assert theirs.eos_token_id == ours.eot


def test_a_damaged_tokenizer_in_a_run_folder_is_written_again(tmp_path):
    experiment = train_experiment(small_config(max_iters=2), tmp_path / "x", "cpu")
    file = experiment.runs[0].path / "tokenizer.json"
    good = file.read_bytes()
    file.unlink()
    file.write_bytes(good[:100])
    train_experiment(small_config(max_iters=2), tmp_path / "x", "cpu")
    assert all((run.path / "tokenizer.json").read_bytes() == good for run in experiment.runs)
