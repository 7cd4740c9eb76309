"""The MNIST example, on the real images, scaled down."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import slowness
from namespaces import two_hosts
from programs import RUN, Programs

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
SCRIPT = EXAMPLES / "mnist.py"
SCALED_DOWN = ["--epochs", "1", "--examples", "3001"]  # 46 full batches and one of 57


@pytest.fixture(scope="module", autouse=True)
def mnist():
    """Fetches the images once; the namespaces below reach nothing."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        import mnist_data

        return mnist_data.load()
    finally:
        sys.path.remove(str(EXAMPLES))


def _accuracies(text):
    return [float(found) for found in re.findall(r"test accuracy ([\d.]+)%", text)]


def test_the_images_are_mnist(mnist):
    (x_train, y_train), (x_test, y_test) = mnist
    assert x_train.shape == (60_000, 28, 28) and x_test.shape == (10_000, 28, 28)
    # Published counts of each digit.
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    np.testing.assert_array_equal(np.bincount(y_train), counts)
    assert np.bincount(y_test)[1] == 1135


def test_two_workers_reach_the_accuracy_of_one_process(tmp_path):
    with Programs() as programs:
        alone = programs.start([sys.executable, SCRIPT, *SCALED_DOWN])
        assert alone.wait(120) == 0, alone.err
        together = programs.run("-n", "2", SCRIPT, *SCALED_DOWN, "--save", tmp_path / "mnist.keras")
        assert together.wait(120) == 0, together.err
    (expected,) = _accuracies(alone.out)
    chief, other = _accuracies(together.out)
    assert expected > 85
    assert chief == other
    assert chief == pytest.approx(expected, abs=0.1)
    assert (tmp_path / "mnist.keras").exists()
    assert "[worker 1] Epoch" not in together.out


@pytest.mark.slow  # parameter_server_test and the example with an embedding train with them
def test_parameter_servers_reach_the_accuracy_of_one_process():
    with Programs() as programs:
        run = programs.run("-n", "2", "--ps", "1", SCRIPT, *SCALED_DOWN)
        assert run.wait(120) == 0, run.err
    (accuracy,) = _accuracies(run.out)  # the coordinator's: the others serve
    assert accuracy > 80  # of 47 updates, some of them stale


@pytest.mark.slow  # ports_test and rendezvous_test meet over two hosts
def test_two_machines_train_together():
    with two_hosts() as (first, second):
        machines = [
            host.exec(
                [
                    *RUN,
                    *("--nnodes", "2", "--node-rank", str(rank), "-n", "1"),
                    *("--rendezvous", f"{first.ip}:29400"),
                    *(str(SCRIPT), *SCALED_DOWN),
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank, host in enumerate((first, second))
        ]
        outputs = [machine.communicate(timeout=slowness.seconds(180))[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], outputs
    (one,), (two,) = map(_accuracies, outputs)
    assert one == two > 85
