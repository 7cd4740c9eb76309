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
import dealing  # noqa: E402
import slowness  # noqa: E402
import tiers  # noqa: E402

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# One that happens to be there is for the tests that ask for it.
if os.environ.get("TFDIST_TEST_DEVICE") != "GPU":
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"


def pytest_configure(config):
    """Settles what the processes that share the tests, and their programs, must agree on."""
    os.environ.setdefault(
        tiers.VARIABLE, "quick" if config.option.markexpr == "not slow" else "all"
    )
    if not config.option.collectonly:
        slowness.measure()
    # A collective that a broken step leaves hanging would outlast the test's deadline.
    os.environ.setdefault("TFDIST_TIMEOUT", f"{slowness.seconds(60):.0f}")


def pytest_xdist_make_scheduler(config, log):
    return dealing.ByFileOrPart(config, log)


def pytest_collection_modifyitems(config, items):
    items.sort(key=dealing.length, reverse=True)
    if config.getoption("timeout") is not None:  # given by hand
        return
    for item in items:
        marked = item.get_closest_marker("timeout")
        seconds = marked.args[0] if marked else float(config.getini("timeout"))
        item.add_marker(pytest.mark.timeout(slowness.seconds(seconds)), append=False)


def pytest_collection_finish():
    """Splits the device in two where a collected test needs TensorFlow, before anything runs.

    So a test module that uses TensorFlow imports it at its top, and runs nothing there.
    """
    if "tensorflow" in sys.modules:
        import devices

        devices.split()
        _read_without_autotuning()


def _read_without_autotuning():
    """Pipelines that are read in this process have no autotuner, plain Keras' neither.

    Under a strategy of tfdist they have none anyway (`tfdist/data/reading.py`). Deleting an
    iterator waits now and then until its autotuner wakes up, which is for as long as the iterator
    has lived, up to a minute: in TensorFlow alone, six of twenty that had lived 40 s took 41 to
    60 s each. Garbage is collected in whatever test comes next.
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
