"""What plain Keras does in one process, it does on replicas, with the same numbers."""

import pathlib

import feature_cases
import gangs
import pytest
import stored
from feature_cases.common import QUICK
from selection import selected

WORKER = pathlib.Path(gangs.__file__).with_name("feature_worker.py")
TOPOLOGIES = {
    "mirrored x2": ("mirrored", 1, 2),
    "2 workers": ("multi", 2, 1),
    "2 workers x2": ("multi", 2, 2),
    "one device": ("mirrored", 1, 1),
}
PARAMETERS = [
    pytest.param(topology, name, marks=[] if topology in QUICK[name] else [pytest.mark.slow])
    for topology in TOPOLOGIES
    for name in feature_cases.FEATURES
]


@pytest.fixture(scope="module")
def workers(request, tmp_path_factory):
    """Each worker's results of what is selected of this topology: started once for all."""
    where, names = TOPOLOGIES[request.param], selected(request, "name", workers=request.param)
    return gangs.run(WORKER, *where, tmp_path_factory.mktemp("many"), names)


@pytest.fixture(scope="module")
def one_process(request, tmp_path_factory):
    def compute(names):
        return gangs.run(WORKER, "none", 1, 1, tmp_path_factory.mktemp("one"), names)[0]

    return stored.results(compute, selected(request, "name"), feature_cases.sources_of)


@pytest.mark.timeout(800)
@pytest.mark.parametrize(("workers", "name"), PARAMETERS, indirect=["workers"], scope="module")
def test_feature_is_that_of_one_process(workers, one_process, name):
    for worker in workers:
        feature_cases.assert_same(name, one_process[name], worker[name])
