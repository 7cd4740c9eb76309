"""The two tiers of the tests: `make test`, what is quick, and `make test-all`, everything.

`conftest.py` says in the environment which one is run, so that the programs which tests start
know it too: tests of the first tier may leave out parts that those of the second do not.
"""

import gc
import os

VARIABLE = "TFDIST_TEST_TIER"


def quick():
    """Whether only what is quick is run."""
    return os.environ.get(VARIABLE) == "quick"


def spare_tracing():
    """In the quick tier, makes tracing of small graphs cheaper; without TensorFlow, nothing.

    A tenth of such a training's time is TensorFlow's optimizers of graphs, which no test is
    about; another one is the garbage collector, which looks through TensorFlow's modules again
    and again.
    """
    if not quick():
        return
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    gc.collect()
    gc.freeze()
