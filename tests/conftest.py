"A cache of its own for every run, and the counts as the last line."
import atexit
import os
import shutil
import signal
import tempfile
import time

import pytest


def pytest_sessionstart(session):
    """Before any test is collected. Programs that tests start inherit the environment, and so do pytest-xdist's workers.

    A background job's shell sets Ctrl-C to be ignored, and programs would inherit that, too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN: signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(session.config, "workerinput"): return
    tmp = tempfile.mkdtemp(prefix="x2face-test-")
    os.environ.update(X2FACE_CACHE=f"{tmp}/cache", IPYTHONDIR=f"{tmp}/ipython", MPLBACKEND="agg")
    os.environ.setdefault("OMP_NUM_THREADS", "1") # two tests run at once
    atexit.register(finish, session.config.pluginmanager.get_plugin("terminalreporter"), tmp, time.monotonic())


def pytest_collection_modifyitems(items):
    "Notebooks come last, since they are short and fill what is left."
    items.sort(key=lambda i: i.path.name == "test_notebooks.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    "Notebooks run on any worker; the tests of another file share fixtures, and so a worker."
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid): return nodeid if "test_notebooks.py" in nodeid else nodeid.split("::")[0]

    return ByFile(config, log)


def finish(
    reporter, # pytest's, which counted
    tmp:str, # the folder of this run's caches
    start:float, # seconds
):
    "Registered first, so called last: nothing that a notebook left behind can print after it."
    shutil.rmtree(tmp, ignore_errors=True)
    n = {k: len(v) for k, v in reporter.stats.items()}
    passed, failed = n.get("passed", 0) + n.get("xpassed", 0), n.get("failed", 0) + n.get("error", 0)
    print(f"wall time {time.monotonic() - start:.0f} s")
    print(f"{passed} passed, {failed} failed, {n.get('skipped', 0) + n.get('xfailed', 0)} skipped", flush=True)
