"""What keeps the code readable: imports one way, no circle, the textbook on one screen, no file of two things."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = [
    {"errors"},
    {"files", "machine", "terminal"},
    {"data", "model"},
    {"experiment"},
    {"training"},
    {"analysis"},
    {"headcount", "train", "sample", "compare"},
    {"benchmarks", "experiments"},
]
"""From the ground up: a file imports from its own room and from floors below it."""
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(
    path.relative_to(ROOT)
    for room in LEVEL
    for path in ([ROOT / f"{room}.py"] if (ROOT / f"{room}.py").exists() else (ROOT / room).rglob("*.py"))
)


def imports(path: Path) -> set[str]:
    """Dotted modules of this project that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if module_file(name) else node.module for name in inside}
    return {name for name in found if name.split(".")[0] in LEVEL}


def module_file(name: str) -> Path | None:
    path = Path(*name.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if (ROOT / p).exists()), None)


def room(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


def test_every_folder_of_code_has_its_floor():
    rooms = {path.parent.name for path in ROOT.glob("*/*.py")} - {"tests"}
    assert rooms <= set(LEVEL)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_run_one_way(path):
    for name in imports(path):
        other = name.split(".")[0]
        assert other == room(path) or LEVEL[other] < LEVEL[room(path)], f"{path} imports {name}"


def test_no_file_imports_itself_by_way_of_others():
    graph = {path: {module_file(name) for name in imports(path)} - {None, path} for path in FILES}
    done: set[Path] = set()

    def follow(path: Path, trail: tuple[Path, ...]) -> None:
        assert path not in trail, " → ".join(map(str, [*trail, path]))
        if path not in done:
            for other in graph.get(path, ()):
                follow(other, (*trail, path))
            done.add(path)

    for path in FILES:
        follow(path, ())


def test_the_textbook_fits_a_screen_and_no_file_holds_two_things():
    lines = {path: len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert lines[Path("model/attention.py")] <= 120
    assert {path: count for path, count in lines.items() if count > 400} == {}
