"""The report as a reader sees it, in headless Chromium: complete, silent, legible, and text never more than text.

Its corpus tries to break out of the page: what validation text and sampled text hold must be shown, not obeyed.
"""

import base64
import csv
import io
import json

import pytest

from compare import main
from errors import guard
from files import read_checked, sha256, write_checked
from tests.analysis.browser import CHROMIUM, Browser
from tests.conftest import make_reports_cheap, small_config
from training.run import train_experiment

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here; apt-get install chromium")

HOSTILE = """</script><script>document.title='owned'</script>
<!-- <b>bold</b> & "q" 'r' --> {{ 7 * 7 }} <img src=x onerror=alert(1)>
"""
CORPUS = "".join(f"{i} {HOSTILE}" for i in range(60))

OVERLAPS = """
(() => {
  const boxes = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const parent = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || parent.closest("script, style, noscript, svg")) continue;
    const clip = parent.closest(".scroll, .picture, .toc");
    const range = document.createRange();
    range.selectNodeContents(walker.currentNode);
    for (const rect of range.getClientRects()) {
      const inside = clip ? clip.getBoundingClientRect() : { left: -1e9, right: 1e9 };
      const left = Math.max(rect.left, inside.left) + 1, right = Math.min(rect.right, inside.right) - 1;
      const top = rect.top + 3, bottom = rect.bottom - 3;
      if (right > left && bottom > top) boxes.push({ left, right, top, bottom, text: walker.currentNode.data.trim() });
    }
  }
  const found = [];
  boxes.forEach((a, i) => boxes.slice(i + 1).forEach((b) => {
    if (a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom) found.push([a.text, b.text]);
  }));
  return found.slice(0, 5);
})()
"""
"""Pairs of texts that lie on each other."""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of a small sweep over a hostile corpus, with a run that diverged."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "corpus.txt").write_text(CORPUS)
    config = small_config(
        sweep={"n_head": [1, 2, 8], "seed": [0, 1, 2]},
        data={"source": "text", "path": str(folder / "corpus.txt"), "tokenizer": "char", "val_fraction": 0.2},
        max_iters=60,
        eval_interval=20,
        checkpoint_interval=60,
        learning_rate=1e-2,
    )
    experiment = train_experiment(config, folder / "small", "cpu")
    diverge(experiment.runs[-1], 50)
    with pytest.MonkeyPatch.context() as patch:
        make_reports_cheap(patch)
        assert guard("compare.py", main, [str(folder / "small"), "--out", str(folder / "<b>out")]) == 0
    return folder / "<b>out" / "report.html"


def diverge(run, iteration):
    """Make the run's metrics and its checkpoint's copy say that it diverged."""
    checkpoint = run.checkpoints()[0]
    lines = run.metrics()
    lines[-1] |= {"val_loss": None, "diverged": iteration}
    for folder in (run.path, checkpoint):
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    state = read_checked(checkpoint / "state.json")
    state["sha256"]["metrics.jsonl"] = sha256(checkpoint / "metrics.jsonl")
    write_checked(checkpoint / "state.json", state)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture
def page(browser, report):
    browser.open(report.as_uri())
    return browser


def texts(page, selector):
    return page.run(f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.textContent)")


def test_the_page_opens_alone_and_in_silence(page, report):
    assert page.errors == []
    assert [url for url in page.requests if not url.startswith("data:")] == [report.as_uri()]
    assert report.stat().st_size < 3_000_000
    assert page.run("fetch('data:,x').then(() => 'fetched', () => 'refused')") == "refused"


def test_text_of_the_corpus_stays_text(page):
    assert page.run("document.title") == "small: heads compared"
    assert page.run("document.querySelectorAll('img[src=x], main b b, .samples script, .passage script').length") == 0
    assert page.run("document.querySelectorAll('script:not([type])').length") == 2
    passages = json.loads(page.run("document.querySelector('.explorer script').textContent"))["passages"]
    told = page.run(
        "[...document.querySelectorAll('.passage .token > :first-child')].map((e) => e.textContent).join('')"
    )
    assert told.replace("⏎", "\n") == "".join(passages[0])
    assert "".join(passages[0]) in CORPUS
    prompts = [text for text in texts(page, ".samples .prompt") if text]
    assert prompts
    assert all(prompt in CORPUS for prompt in prompts)
    assert "<b>out" in page.run("document.querySelector('footer').textContent")


def test_the_sentence_the_contents_and_the_diverged_run_are_there(page):
    assert page.run("document.querySelector('.lead').textContent").startswith("At D = 32 and learning rate 1e-2")
    assert "diverged at iteration 50" in page.run("document.querySelector('.notes').textContent")
    missing = "[...document.querySelectorAll('.toc a')].filter((a) => !document.getElementById(a.hash.slice(1)))"
    assert page.run(f"{missing}.length") == 0
    assert page.run("document.querySelectorAll('.toc a').length") == page.run(
        "document.querySelectorAll('main > section').length"
    )
    assert page.run("new Set([...document.querySelectorAll('[id]')].map((e) => e.id)).size") == page.run(
        "document.querySelectorAll('[id]').length"
    )


def shown(page):
    """What the explorer shows: the sentence, the numbers under the tokens, and the chosen head's pixels."""
    return page.run(
        "[document.querySelector('.told').textContent,"
        "[...document.querySelectorAll('.share')].map((e) => e.textContent).join(),"
        "document.querySelectorAll('.map[aria-pressed=true] canvas')[0].toDataURL()]"
    )


def choose(page, name, place):
    page.run(f"document.querySelectorAll('[data-name={name}] input')[{place}].click()")


def test_another_head_layer_number_of_heads_or_passage_redraws_the_explorer(page):
    choose(page, "run", 2)
    assert page.run("document.querySelectorAll('.map').length") == 8
    before = shown(page)
    assert "H = 8" in before[0]
    choose(page, "head", 5)
    after = shown(page)
    assert all(new != old for new, old in zip(after, before, strict=True))
    assert texts(page, ".map[aria-pressed=true]") == ["head 6"]
    page.run("document.querySelectorAll('.map')[0].click()")
    assert shown(page) == before
    passages = json.loads(page.run("document.querySelector('.explorer script').textContent"))["passages"]
    other = next(i for i, passage in enumerate(passages) if passage != passages[0])
    choose(page, "passage", other)
    assert page.run("document.querySelector('.passage').dataset.shown") == str(other)
    assert shown(page)[2] != before[2]
    choose(page, "run", 0)
    assert page.run("document.querySelectorAll('.map').length") == 1
    assert page.errors == []


def test_mouse_and_keyboard_choose_the_token_and_its_numbers_are_the_patterns(page):
    data = json.loads(page.run("document.querySelector('.explorer script').textContent"))
    choose(page, "run", 1)
    choose(page, "head", 1)
    page.hover(".token[data-place='9']")
    assert page.run("document.querySelector('.token.query').dataset.place") == "9"
    page.run("document.querySelector('.passage').focus()")
    page.press("ArrowRight")
    assert page.run("document.querySelector('.token.query').dataset.place") == "10"
    of = next(run for run in data["runs"] if run["n_head"] == 2)
    pattern = base64.b64decode(of["patterns"][0][0])  # passage 1, layer 1
    row = [byte / 255 for byte in pattern[len(pattern) // 2 :][55:66]]  # head 2, token 11
    assert max(row) > 1.5 * min(row)  # not all alike
    assert sum(row) == pytest.approx(1, abs=0.03)
    numbers = [int(text or 0) for text in texts(page, ".share")]
    assert numbers[:11] == [round(100 * p) if p >= 0.015 else 0 for p in row]
    assert not any(numbers[11:])  # a head cannot look ahead


def test_any_seed_and_two_heads_beside_each_other_are_seen(page):
    before = shown(page)
    choose(page, "seed", 1)
    assert "seed 1" in shown(page)[0]
    assert shown(page)[2] != before[2]
    choose(page, "two", 1)
    assert len(texts(page, ".view .passage")) == 2
    page.hover(".token[data-place='5']")
    assert page.run("[...document.querySelectorAll('.token.query')].map((e) => e.dataset.place)") == ["5", "5"]
    choose(page, "run", 4)  # H = 2 on the right
    assert ["H = 2" in text for text in texts(page, ".told")] == [True, True]
    choose(page, "run", 5)
    assert ["H = 8" in text for text in texts(page, ".told")] == [False, True]
    assert page.errors == []


def test_characters_stand_in_columns_and_no_share_runs_into_the_next(page):
    """Every number fits the width of its token, which is one character wide."""
    assert page.run("getComputedStyle(document.querySelector('.passage')).fontFamily").startswith("ui-monospace")
    page.run("document.querySelectorAll('.share').forEach((e) => { e.textContent = '100'; })")
    assert (
        page.run("[...document.querySelectorAll('.token')].filter((e) => e.scrollWidth > e.offsetWidth + 1).length")
        == 0
    )


def test_a_table_is_copied_as_csv(page):
    table = "document.querySelector('.table table')"
    rows = list(csv.reader(io.StringIO(page.run(f"csv({table})"))))
    cells = page.run(f"[...{table}.rows].map((row) => [...row.cells].map((cell) => cell.textContent))")
    assert rows == [[cell.replace("−", "-") if cell != "–" else "" for cell in row] for row in cells]
    assert len(rows) > 2
    assert page.run("csv(document.querySelector('.table table')).includes('\\u2212')") is False
    label = page.run(
        "new Promise((done) => { const b = document.querySelector('button.csv');"
        "new MutationObserver(() => done(b.textContent)).observe(b, {childList: true}); b.click(); })"
    )
    assert label in ("Copied", "Cannot copy here")


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_overlaps_or_scrolls_sideways(browser, report, width):
    browser.open(report.as_uri(), width)
    for place in range(3):
        choose(browser, "run", place)
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.run(OVERLAPS) == []
    browser.run("document.querySelector('.lead').style.marginBottom = '-5rem'")
    assert browser.run(OVERLAPS) != []  # it can be seen
