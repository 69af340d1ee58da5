"""The guide and the notebook run from top to bottom."""

import ast
import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

from assay import Record

DOCS = Path(__file__).parents[3] / "docs"
CODE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_every_line_of_the_guide_runs(own_registries: None) -> None:
    """One statement after the other, in one namespace, as in a notebook."""
    names: dict[str, object] = {"__name__": "__main__"}
    statements = [node for block in CODE.findall((DOCS / "python.md").read_text()) for node in ast.parse(block).body]
    assert len(statements) > 20
    failed = []
    for statement in statements:
        if isinstance(statement, ast.Expr):
            found = eval(compile(ast.Expression(statement.value), "python.md", "eval"), names)
            errors = [found.error] if isinstance(found, Record) else []
            errors += list(found.error) if isinstance(found, pd.DataFrame) and "error" in found else []
            failed += [error for error in errors if error]
        else:
            exec(compile(ast.Module([statement], []), "python.md", "exec"), names)
    assert failed == []


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    notebook = nbformat.read(DOCS / "tutorial.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) > 8
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]


def test_the_notebook_is_kept_without_outputs() -> None:
    notebook = nbformat.read(DOCS / "tutorial.ipynb", as_version=4)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
