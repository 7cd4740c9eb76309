"""What all tests share: helper modules, two logical CPUs, and clean global state."""

import os
import pathlib
import sys

import hypothesis
import pytest

# The same examples in each run; a machine that is busy is no failure.
hypothesis.settings.register_profile(
    "tfdist",
    derandomize=True,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("tfdist")

sys.path.insert(0, str(pathlib.Path(__file__).parent))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# A collective that a broken step leaves hanging would outlast the test's deadline.
os.environ.setdefault("TFDIST_TIMEOUT", "60")

# One that happens to be there is for the tests that ask for it.
if os.environ.get("TFDIST_TEST_DEVICE") != "GPU":
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

# Minutes each: begun first, so that no process is left alone with one of them at the end.
LONG = (
    *("features_test", "equality_test", "checkpoint_test", "multi_worker_faults_test"),
    *("multi_worker_test", "search_test"),
    *("compiled_step_test", "docstrings_test", "parameter_server_faults_test", "readme_test"),
    *("gradient_sync_test", "char_lm_test", "gradient_sync_workers_test", "strategies_test"),
    *("gradient_sync_composition_test", "checkpoint_workers_test", "notebooks_test"),
)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


def pytest_collection_finish():
    """Splits the device in two where a collected test needs TensorFlow, before anything runs.

    So a test module that uses TensorFlow imports it at its top, and runs nothing there.
    """
    if "tensorflow" in sys.modules:
        import devices

        devices.split()
        _read_without_autotuning()


def _read_without_autotuning():
    """Pipelines that are read in this process have no autotuner; those of real workers have.

    Deleting an iterator waits now and then until its autotuner wakes up, which is for as
    long as the iterator has lived, up to a minute: in TensorFlow alone, six of twenty that
    had lived 40 s took 41 to 60 s each. Garbage is collected in whatever test comes next.
    """
    import tensorflow as tf

    without = tf.data.Options()
    without.autotune.enabled = False
    read = tf.data.Dataset.__iter__
    tf.data.Dataset.__iter__ = lambda dataset: read(dataset.with_options(without))


@pytest.fixture(autouse=True)
def clean_keras():
    """Each test finds, and leaves, Keras' and TensorFlow's global settings as they were."""
    keras = sys.modules.get("keras")
    if keras is None:
        yield
        return
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    yield
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)
    sys.modules["tensorflow"].random.set_seed(None)


@pytest.fixture(scope="module")
def deterministic():
    """The tests of a module that compare bits: TensorFlow's operations give the same each time."""
    tf = sys.modules["tensorflow"]
    tf.config.experimental.enable_op_determinism()
    yield
    _disable_op_determinism()


@pytest.fixture
def seedless(deterministic):
    """TensorFlow refuses what is random without a seed where operations are deterministic."""
    _disable_op_determinism()
    yield
    sys.modules["tensorflow"].config.experimental.enable_op_determinism()


def _disable_op_determinism():
    from tensorflow.python.framework import config

    config.disable_op_determinism()


# Programs, not modules: importing them runs them.
collect_ignore_glob = ["*_worker.py"]
