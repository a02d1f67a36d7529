"""The notebook runs from its first cell to its last, on a sweep that it trains itself where there is none."""

from pathlib import Path

import nbclient
import nbformat

ROOT = Path(__file__).parent.parent


def test_the_heads_notebook_runs_where_nothing_was_trained(tmp_path):
    for path in [
        *ROOT.glob("*.py"),
        *(ROOT / name for name in ("analysis", "configs", "data", "experiment", "model", "training")),
    ]:
        (tmp_path / path.name).symlink_to(path)
    notebook = nbformat.read(ROOT / "notebooks" / "heads.ipynb", as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    assert (tmp_path / "runs" / "heads-notebook" / "h04-seed0" / "model.safetensors").exists()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    assert "d_h = D / H = 32" in "".join(output.get("text", "") for output in outputs)
