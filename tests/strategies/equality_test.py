"""N replicas train to the numbers of one process, on every kind of strategy."""

import pathlib

import equality_cases
import gangs
import numpy as np
import pytest
import stored
from selection import selected

WORKER = pathlib.Path(equality_cases.__file__).with_name("equality_worker.py")
# Float32 costs a second round of tracing: these see every path of the tail.
FLOAT32_CASES = {
    "SGD with momentum, last batch of one": 1e-5,
    "shuffled arrays": 1e-5,
    "convolution, synchronized BN": 1e-5,
    "Adam, last batch of one": 1e-4,
    "two heads, one masked": 1e-4,
    "loss scaling": 1e-4,
}
TRAININGS = {f"float64 {name}": 1e-9 for name in equality_cases.CASES}
TRAININGS |= {f"float32 {name}": tolerance for name, tolerance in FLOAT32_CASES.items()}
TOPOLOGIES = {
    "2 workers": ("multi", 2, 1),
    "mirrored x2": ("mirrored", 1, 2),
    "2 workers x2": ("multi", 2, 2),
    "parameter servers": ("servers", 2, 1),
}
# What parameter servers cannot do they refuse, with an error that has these words.
REFUSED = {
    "gradient_accumulation_steps=2": "gradient_accumulation_steps",
    "loss scaling": "Loss scaling",
}
# The step is one for all topologies: what the other quick ones lack is what they do
# differently, which is how batches, gradients and state come to the replicas of a process.
QUICK = {
    "2 workers": {
        *(f"float64 {name}" for name in equality_cases.CASES),
        "float32 Adam, last batch of one",
        "float32 two heads, one masked",
        "float32 loss scaling",
    },
    "mirrored x2": {
        "float64 SGD with momentum, last batch of one",
        "float64 shuffled arrays",
        "float64 class_weight",
        "float64 mask and mean_with_sample_weight",
        "float64 two heads, one masked",
        "float64 Embedding, sparse gradients",
        "float64 gradient_accumulation_steps=2",
        "float64 loss scaling",
        "float64 EMA",
        "float64 convolution, synchronized BN",
        "float64 steps_per_execution=4",
        "float32 Adam, last batch of one",
    },
    "2 workers x2": set(),
    # Their step is another one.
    "parameter servers": {
        "float64 two heads, one masked",
        "float64 Embedding, sparse gradients",
        "float64 gradient_accumulation_steps=2",
        "float64 loss scaling",
        "float64 EMA",
        "float64 steps_per_execution=4",
    },
}
PARAMETERS = [
    pytest.param(topology, case, marks=[] if case in QUICK[topology] else [pytest.mark.slow])
    for topology in TOPOLOGIES
    for case in TRAININGS
]


@pytest.fixture(scope="module")
def workers(request, tmp_path_factory):
    """Each worker's results of what is selected of this topology: started once for all."""
    where, cases = TOPOLOGIES[request.param], selected(request, "case", workers=request.param)
    return gangs.run(WORKER, *where, tmp_path_factory.mktemp("many"), cases)


@pytest.fixture(scope="module")
def one_process(request, tmp_path_factory):
    def compute(cases):
        return gangs.run(WORKER, "none", 1, 1, tmp_path_factory.mktemp("one"), cases)[0]

    return stored.results(compute, selected(request, "case"), lambda case: [equality_cases])


@pytest.mark.timeout(1000)
@pytest.mark.parametrize(("workers", "case"), PARAMETERS, indirect=["workers"], scope="module")
def test_training_is_that_of_one_process(request, workers, one_process, case):
    expected, found = one_process[case], workers[0][case]
    refused = REFUSED.get(case.partition(" ")[2])
    if refused and request.node.callspec.params["workers"] == "parameter servers":
        assert found.startswith("ValueError") and refused in found
        assert "ParameterServerStrategy" in found
        return
    assert not isinstance(expected, str), expected
    assert not isinstance(found, str), found
    # What parameter servers log besides.
    found = {key: v for key, v in found.items() if not key.startswith("history staleness_")}
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        bound = TRAININGS[case] * np.linalg.norm(value)
        np.testing.assert_allclose(found[name], value, rtol=0, atol=bound, err_msg=name)
    # Workers end with the same bits.
    for worker in workers[1:]:
        for name, value in found.items():
            assert value.tobytes() == worker[case][name].tobytes(), name
