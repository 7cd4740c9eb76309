"""Which tests stay together when several processes share them, and which begin first.

A process takes all tests of a file, as they share fixtures; of the files below, those of one
part, where the tests of a part share a fixture, or each test by itself, where none do.
"""

from xdist.scheduler import LoadScopeScheduling

# The part is the first parameter.
BY_PART = {"features_test", "equality_test"}
BY_TEST = {
    *("docstrings_test", "gradient_sync_composition_test", "compiled_step_test"),
    "contract_test",
}

# The longest first, so that no process is left alone with one of them at the end.
LONGEST = [
    *("features_test", "equality_test", "multi_worker_faults_test", "search_test"),
    *("checkpoint_test", "gradient_sync_test", "parameter_server_faults_test"),
    *("multi_worker_test", "gradient_sync_workers_test", "checkpoint_workers_test"),
    *("gradient_sync_composition_test", "strategies_test", "gradient_sync_aftermath_test"),
    *("gradient_sync_resume_test", "readme_test", "contract_test", "compiled_step_test"),
    *("notebooks_test", "char_lm_test", "mnist_test", "docstrings_test"),
]


class ByFileOrPart(LoadScopeScheduling):
    """Deals out parts of files, in the order in which their first tests stand."""

    def _split_scope(self, nodeid):
        return together(nodeid)


def together(nodeid):
    """A name of the tests that one process takes with this one."""
    file, _, test = nodeid.partition("::")
    name = file.rpartition("/")[2].removesuffix(".py")
    if name in BY_TEST:
        return nodeid
    if name in BY_PART:
        return f"{file}::{test.partition('[')[2].partition('-')[0]}"
    return file


def length(item):
    """A number that is larger for tests of files that take longer."""
    name = item.path.stem
    return len(LONGEST) - LONGEST.index(name) if name in LONGEST else 0
