"A tiny sweep on the sample films, for real: executed notebooks, one killed, one broken, one repeated, two at a time on Dask."
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import house
import nbformat
import papermill
import pytest
from distributed import LocalCluster
from x2face_nb.ablation import Run, collect, grid, is_done, sweep, template
from x2face_nb.core import X2FaceError

RUNS = grid(1, ["unet_l1", "unet3plus-macs_l1+ms-ssim"], Run(steps=3, batch_size=2, every=60))
CODE = "import sys; from tests.test_ablation import RUNS, sweep; sweep(RUNS, sys.argv[1], progress=False)"


def files(folder): return {p.relative_to(folder): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.name != "sweep.csv"}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    "A sweep that was killed in its second run, and started again."
    at = tmp_path_factory.mktemp("sweep")
    p = subprocess.Popen([sys.executable, "-c", CODE, at], cwd=house.ROOT, env=os.environ | dict(PYTHONPATH=f"{house.ROOT}{os.pathsep}{house.ROOT}/tools"))
    while not list((at / RUNS[1].name).glob("training/log.jsonl")) and p.poll() is None: time.sleep(.05)
    p.send_signal(signal.SIGKILL)
    assert p.wait() == -signal.SIGKILL, "the sweep ended before it could be killed"
    assert is_done(RUNS[0], at) and not is_done(RUNS[1], at)
    before = files(at / RUNS[0].name)
    table = sweep(RUNS, at, progress=False)
    assert table.state.tolist() == ["done before", "done"] and table.error.isna().all()
    assert files(at / RUNS[0].name) == before, "a run was done twice"
    return at


def test_results(swept):
    runs, rows = collect(swept)
    assert sorted(runs.variant) == ["unet3plus-macs_l1+ms-ssim", "unet_l1"] and set(runs.steps) == {3}
    assert set(rows.method) == {"calibrated", "composed", "identity warp", "copy-source"} and rows.l1.notna().all()
    for r in RUNS:
        nb = nbformat.read(swept / r.name / "train.ipynb", 4)
        assert nb.metadata.papermill.parameters["loss"] == r.loss and nb.metadata.papermill.exception is None
        assert not Path(nb.metadata.papermill.input_path).is_absolute() and not Path(nb.metadata.papermill.output_path).is_absolute()


def test_started_again_when_done(swept):
    before = files(swept)
    assert sweep(RUNS, swept, progress=False).state.tolist() == ["done before"] * 2 and files(swept) == before


def test_report(swept, tmp_path):
    "Reads what the sweep wrote, and draws it."
    papermill.execute_notebook(template().with_name("report.ipynb"), tmp_path / "report.ipynb", dict(results=str(swept), tables=str(tmp_path)), progress_bar=False)
    assert "unet3plus-macs" in (tmp_path / "report.md").read_text()
    assert {"runs.csv", "tracks.csv", "differences.csv", "differences.png", "cost.png"} <= {p.name for p in tmp_path.iterdir()}


def test_same_figures_again_and_on_dask(swept, tmp_path):
    "Two workers, fresh processes: the same figures to the last digit."
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        table = sweep(RUNS, tmp_path, address=cluster.scheduler_address, progress=False)
    assert table.state.tolist() == ["done"] * 2, table.error.tolist()
    for r in RUNS: assert (tmp_path / r.name / "metrics.csv").read_text() == (swept / r.name / "metrics.csv").read_text()


def test_failed_run_is_red_and_the_others_go_on(swept, tmp_path):
    shutil.copytree(swept / RUNS[1].name, tmp_path / RUNS[1].name)
    (tmp_path / RUNS[0].name).mkdir()
    (tmp_path / RUNS[0].name / "training").write_text("in the way")
    table = sweep(RUNS, tmp_path, progress=False)
    assert table.state.tolist() == ["failed", "done before"] and "Cannot write to" in table.error[0]
    cells = nbformat.read(tmp_path / RUNS[0].name / "train.ipynb", 4).cells
    assert "papermill-error-cell-tag" in cells[0].metadata.get("tags", []), "the notebook names its failed cell"
    assert not is_done(RUNS[0], tmp_path)


def test_mistyped_parameter_is_refused(tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match="did you mean 'backbone'"):
        papermill.execute_notebook(template(), tmp_path / "out.ipynb", dict(backbon="unet3plus"), progress_bar=False)
    assert json.loads((tmp_path / "out.ipynb").read_text())["cells"][-1]["outputs"] == [], "something had started"


def test_no_scheduler(tmp_path):
    with pytest.raises(X2FaceError, match="no Dask scheduler"): sweep(RUNS, tmp_path, address="tcp://127.0.0.1:9", progress=False)
