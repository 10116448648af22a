"""The notebooks run from top to bottom on the example studies, and carry outputs that give no
machine away."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "analysis" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_there_are_three_and_the_example_studies_are_small() -> None:
    assert len(NOTEBOOKS) == 3
    files = [path for path in (FOLDER / "example").rglob("*") if path.suffix in (".csv", ".json")]
    assert 0 < sum(path.stat().st_size for path in files) < 700_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_carried_and_name_no_place(path: Path) -> None:
    import nbformat

    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    assert all(cell.outputs for cell in cells)
    text = "".join(
        str(out.get("text", "")) + str(out.get("data", {}).get("text/plain", ""))
        for c in cells
        for out in c.outputs
    )
    assert "/home/" not in text
    assert "/tmp/" not in text
    assert not any(
        out.output_type == "error" or out.get("name") == "stderr"
        for cell in cells
        for out in cell.outputs
    )


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
# A kernel that speaks over TCP on this machine alone says so in a warning.
@pytest.mark.filterwarnings("default")
def test_a_notebook_runs(path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    kept = nbformat.read(path, 4)
    ran = NotebookClient(
        nbformat.read(path, 4), timeout=300, resources={"metadata": {"path": str(FOLDER)}}
    ).execute()

    def printed(notebook: nbformat.NotebookNode) -> list[str]:
        return [
            out.text
            for cell in notebook.cells
            for out in cell.get("outputs", [])
            if out.get("name") == "stdout"
        ]

    assert printed(ran) == printed(kept), "what a reader of the file sees is what running it prints"
