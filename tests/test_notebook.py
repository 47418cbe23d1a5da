"""The notebook of docs/: it runs from its first cell to its last, and is kept without what it printed."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import ROOT


def test_the_notebook_runs_and_is_kept_without_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: pip install --editable .[dev]")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: pip install --editable .[dev]")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed: pip install --editable .[dev]")
    notebook = nbformat.read(ROOT / "docs" / "notebook.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    nbclient.NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    printed = "".join(output.get("text", "") for cell in cells for output in cell.outputs)
    for words in ("32 training images of 8 people", "camera 1:", "is most like", "pixels as in the exact mask"):
        assert words in printed
    assert any("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs)
