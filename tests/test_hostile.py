"""A run folder, a corpus or a cache made by somebody else: nothing of it runs, leads out of its folder, or hangs."""

import ast
import html.parser
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import yaml

from experiment.folder import Experiment
from files import read_checked, read_lines, sha256, write_checked, write_lines
from tests.conftest import config_yaml, small_config
from tests.torture.common import ROOT, call, clean

PROGRAMS = (
    lambda work, config: ["train.py", config, "--out_dir", work, "--device", "cpu"],
    lambda work, config: ["sample.py", work, "--max_new_tokens", "2", "--num_scored", "0", "--device", "cpu"],
    lambda work, config: ["compare.py", work, "--quick", "--device", "cpu"],
)


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(config_yaml(small_config()))
    return path


@pytest.fixture
def work(tmp_path, trained) -> Path:
    shutil.copytree(trained.path, tmp_path / "x")
    return tmp_path / "x"


@pytest.fixture
def bounded():
    """A program that waits for ever is stopped, and fails."""

    class WaitsForEverError(BaseException):
        """Not an Exception, which a program might take for one of its own."""

    def stop(*_):
        raise WaitsForEverError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


FILES = [
    "config.yaml",
    "environment.json",
    ".lock",
    "tokenizer/headcount_tokenizer.json",
    "tokenizer/bpe.tiktoken",
    "h01-seed0/config.json",
    "h01-seed0/metrics.jsonl",
    "h01-seed0/model.safetensors",
    "h01-seed0/checkpoints/iter-000012/state.json",
    "h01-seed0/checkpoints/iter-000012/model.safetensors",
    "h01-seed0/checkpoints/iter-000012/metrics.jsonl",
]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_a_pipe_or_a_folder_in_place_of_a_file_is_an_error_in_words_or_put_right(work, config, bounded, name, make):
    (work / name).unlink()
    make(work / name)
    for argv in (program(work, config) for program in reversed(PROGRAMS)):
        status, _, err = call(*argv)
        assert clean(status, err) is None


def seal_lines(work: Path, change) -> None:
    """Change the metrics of the last checkpoints, with checksums that fit."""
    for run in Experiment.open(work).runs:
        checkpoint = run.checkpoints()[0]
        lines = [
            json.dumps(change(json.loads(line))) for line in (checkpoint / "metrics.jsonl").read_text().splitlines()
        ]
        for file in (checkpoint / "metrics.jsonl", run.path / "metrics.jsonl"):
            file.unlink()
            file.write_text("\n".join(lines) + "\n")
        seal(checkpoint / "state.json", sha256={**read_checked(checkpoint / "state.json")["sha256"],
                                                "metrics.jsonl": sha256(checkpoint / "metrics.jsonl")})  # fmt: skip


def seal(file: Path, **values) -> None:
    write_checked(file, read_checked(file) | values)


def seal_config(work: Path, section: str, **values) -> None:
    held = yaml.safe_load(read_lines(work / "config.yaml"))
    write_lines(work / "config.yaml", yaml.safe_dump(held | {section: held[section] | values}))


NONSENSE = {
    "a loss of text": lambda work: seal_lines(work, lambda line: line | {"val_loss": "<script>"}),
    "a list for a loss": lambda work: seal_lines(work, lambda line: line | {"train_loss": []}),
    "no step": lambda work: seal_lines(work, lambda line: line | {"iter": None}),
    "numbers for lines": lambda work: seal_lines(work, lambda line: 3),
    "relations of text": lambda work: seal_lines(work, lambda line: line | {"val_loss_by_relation": "x"}),
    "no starts": lambda work: seal(work / "environment.json", starts=None),
    "parameters of text": lambda work: seal(work / "environment.json", parameters="x"),
    "an unknown precision": lambda work: seal(work / "environment.json", precision="fp64"),
    "no data hash": lambda work: write_checked(work / "environment.json", {}),
    "a tokenizer of no kind": lambda work: seal(work / "tokenizer" / "headcount_tokenizer.json", kind=3),
    "a tokenizer's file elsewhere": lambda work: seal(
        work / "tokenizer" / "headcount_tokenizer.json", files={"../../../../etc/passwd": "0"}
    ),
    "layers of text": lambda work: seal_config(work, "model", n_layer="2"),
    "head counts of no list": lambda work: seal_config(work, "sweep", n_head=4),
    "a path out of the folder": lambda work: seal_config(work, "sweep", seed=["../../x"]),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_under_checksums_that_fit_is_an_error_in_words(work, config, what):
    NONSENSE[what](work)
    ended = []
    for argv in (program(work, config) for program in reversed(PROGRAMS)):
        status, out, err = call(*argv)
        assert clean(status, err) is None
        assert "<script>" not in out
        ended.append(status)
    assert 2 in ended or "put back" in out


def test_a_checkpoint_beyond_the_last_step_is_got_rid_of(work, config):
    planted = work / "h01-seed0" / "checkpoints" / "iter-000100"
    planted.mkdir()
    for _ in range(2):
        status, _, err = call("train.py", config, "--out_dir", work, "--device", "cpu")
        assert (status, err) == (0, "")
    assert not planted.exists()


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("linked", ["figures", "tensorboard", "wandb", ".lock", "h01-seed0/analysis", "h01-seed0"])
def test_what_a_planted_link_leads_to_is_neither_written_nor_removed(tmp_path, work, config, linked):
    outside = tmp_path / "outside"
    (outside / "h01-seed0").mkdir(parents=True)
    (outside / "h01-seed0" / "precious.txt").write_text("mine")
    shutil.rmtree(work / linked, ignore_errors=True)
    (work / linked).unlink(missing_ok=True)
    (work / linked).symlink_to(outside / "new" if linked == ".lock" else outside)
    shutil.rmtree(work / "h04-seed0" / "checkpoints" / "iter-000012")  # there is something to train
    for argv in (
        ["train.py", config, "--out_dir", work, "--device", "cpu", "--log", "tensorboard"],
        ["compare.py", work, "--device", "cpu", *["--quick"] * (linked != "h01-seed0/analysis")],
    ):
        status, _, err = call(*argv)
        assert clean(status, err) is None
    assert [p.relative_to(outside).as_posix() for p in outside.rglob("*")] == ["h01-seed0", "h01-seed0/precious.txt"]


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7 * 7 }}<!-- \n"


class Tags(html.parser.HTMLParser):
    """The elements of a page with their attributes, and the text of its scripts."""

    def __init__(self, page: str):
        super().__init__()
        self.tags, self.scripts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] == "script":
            self.scripts.append(data)


def test_text_of_a_corpus_and_of_its_name_stays_text_in_the_page(tmp_path):
    corpus = tmp_path / "<img src=x onerror=alert(1)>.txt"
    corpus.write_text(HOSTILE * 100)
    data = {"source": "text", "path": str(corpus), "tokenizer": "char", "val_fraction": 0.2}
    path = tmp_path / "c.yaml"
    path.write_text(config_yaml(small_config(data=data)))
    folder = tmp_path / "<script>alert(1)<b>"
    assert call("train.py", path, "--out_dir", folder, "--device", "cpu")[0] == 0
    status, _, err = call("compare.py", folder, "--device", "cpu")
    assert status == 0, err
    page = (folder / "report.html").read_text(encoding="utf-8")
    seen = Tags(page)
    assert "&lt;script&gt;alert(1)&lt;b&gt;" in page  # the command that made it
    assert not [tag for tag, attributes in seen.tags if tag == "img" and attributes.get("src") == "x"]
    assert not [attributes for _, attributes in seen.tags if any(name.startswith("on") for name in attributes)]
    assert [attributes.get("type") for tag, attributes in seen.tags if tag == "script"] == [
        "application/json",
        None,
        None,
    ]
    passages = json.loads(seen.scripts[0])["passages"]
    assert any("<" in token for token in str(passages))


def test_no_code_of_others_is_asked_for_anywhere():
    """No pickle and no foreign code is loaded, trust_remote_code is never passed, YAML comes from a safe loader."""
    forbidden = {"eval", "exec", "pickle.load", "pickle.loads", "torch.load", "yaml.unsafe_load", "yaml.full_load"}
    files = [f for f in ROOT.rglob("*.py") if f.relative_to(ROOT).parts[0] not in ("tests", ".venv")]
    assert len(files) > 60
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in forbidden, file
                assert "trust_remote_code" not in [keyword.arg for keyword in node.keywords], file
                if called == "yaml.load":
                    assert ast.unparse(node.args[1]) == "_Loader", file  # a SafeLoader
