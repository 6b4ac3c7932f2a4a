"""The example notebook runs from the first cell to the last, and leaves the pictures that it describes."""

from base64 import b64decode
from io import BytesIO
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

# However busy the machine, a lab waits for its first picture.
PATIENT = "from vae_plugin.widgets import lab\nlab.FIRST_PICTURE = 600"
NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "latent-lab.ipynb"


def pictures(notebook):
    """The PNGs among the outputs of each code cell."""
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            data = [output.get("data", {}) for output in cell.outputs]
            found.append([Image.open(BytesIO(b64decode(d["image/png"]))) for d in data if "image/png" in d])
    return found


def test_the_notebook_in_the_repository_has_its_pictures():
    assert [len(images) for images in pictures(nbformat.read(NOTEBOOK, 4))] == [1, 1, 1, 0, 1, 1]


@pytest.mark.slow
@pytest.mark.timeout(7200)  # it trains; this only ends a kernel that hangs
def test_the_notebook_runs(tmp_path):
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOK, 4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(PATIENT))
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=None, startup_timeout=600, resources=where).execute()
    _, *shown = pictures(notebook)
    assert [len(images) for images in shown] == [1, 1, 1, 0, 1, 1]
    large, moved = (np.asarray(shown[i][0].convert("RGB")).astype(float).max(-1) / 255 for i in (1, 2))
    # A disc of radius 0.25 covers 0.2 of the image, one of radius 0.1 only 0.03.
    assert large.mean() > 0.1
    x = (moved * np.arange(64)).sum() / moved.sum() / 64
    assert x == pytest.approx(0.7, abs=0.15)
    photograph = np.asarray(shown[5][0].convert("RGB")).astype(float)
    assert photograph.std() > 10  # no gray nothing
