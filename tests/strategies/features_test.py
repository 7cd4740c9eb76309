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
    "parameter servers": ("servers", 2, 1),
}
# What parameter servers cannot do they refuse, with an error that has these words.
REFUSED = {
    "mixed float16 with loss scaling": "Loss scaling",
    "gradient accumulation": "gradient_accumulation_steps",
    "run eagerly": "run_eagerly=True",
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
def test_feature_is_that_of_one_process(request, workers, one_process, name):
    topology = request.node.callspec.params["workers"]
    for worker in workers:
        if topology == "parameter servers" and name in REFUSED:
            assert feature_cases.is_refusal(worker[name]), worker[name]
            assert REFUSED[name] in worker[name]
            continue
        feature_cases.assert_same(name, one_process[name], worker[name])
