"""Results that do not change as long as their sources do not: kept from one run to the next.

They are of plain Keras in one process, with which replicas are compared. `make test-all`
computes all of them anew. What is kept stands in `.cache`, which git ignores.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import inspect
import os
import pathlib
import pickle
import platform
import tempfile

import tiers

DIRECTORY = pathlib.Path(__file__).resolve().parents[1] / ".cache" / "one_process"
# What else the bits of a result may depend on.
VARIABLES = ("TF_ENABLE_ONEDNN_OPTS", "TFDIST_TEST_DEVICE", "OMP_NUM_THREADS", tiers.VARIABLE)


def results(compute, cases, sources_of):
    """The results of all cases, from the disk or from `compute`.

    Args:
        compute: function of a list of cases that returns `{case: result}`; a failure is a
            string, and is not kept.
        cases: list of strings.
        sources_of: function of a case that returns the modules that its result depends on.
    """
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    paths = {case: DIRECTORY / _key(case, sources_of(case)) for case in cases}
    name = hashlib.sha256(repr(sorted(paths.values())).encode()).hexdigest()[:16]
    # Another process that wants the same waits here until they are there.
    with open(DIRECTORY / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = {} if _computed_anew(name) else {case: _load(paths[case]) for case in cases}
        found = {case: result for case, result in found.items() if result is not None}
        if missing := [case for case in cases if case not in found]:
            found |= compute(missing)
            for case in missing:
                if not isinstance(found[case], str):
                    _save(paths[case], found[case])
    return found


def _key(case, sources):
    parts = [case, platform.python_version()]
    parts += [importlib.metadata.version(name) for name in ("tensorflow", "keras", "numpy")]
    parts += [_processor(), str(len(os.sched_getaffinity(0)))]
    parts += [f"{name}={os.environ.get(name)}" for name in VARIABLES]
    parts += [pathlib.Path(inspect.getsourcefile(module)).read_text() for module in sources]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _processor():
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line
    return platform.processor()


def _computed_anew(name):
    """Whether these must be computed: once in each run of all tests, not in each process."""
    if tiers.quick():
        return False
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    of_last_run = DIRECTORY / f"{name}.run"
    if of_last_run.exists() and of_last_run.read_text() == run:
        return False
    of_last_run.write_text(run)
    return True


def _load(path):
    """A result, or None."""
    try:
        return pickle.loads(path.read_bytes())
    except (OSError, EOFError, pickle.UnpicklingError):
        return None


def _save(path, result):
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        pickle.dump(result, file)
    os.replace(file.name, path)
