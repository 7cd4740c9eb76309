import devices
import keras
import numpy as np
import pytest

import tfdist


@pytest.mark.parametrize("bound", [-1, 1.5, "2", True])
def test_a_bound_must_be_a_whole_number(bound):
    with pytest.raises(ValueError, match=r"expected None or an int of at least 0"):
        tfdist.callbacks.AsyncSGD(max_staleness=bound)


def test_its_config():
    callback = tfdist.callbacks.AsyncSGD(3, staleness_scaling=True)
    assert callback.get_config() == {"max_staleness": 3, "staleness_scaling": True}


@pytest.mark.parametrize("strategy", [None, "mirrored"])
def test_it_needs_parameter_servers(strategy):
    scope = tfdist.MirroredStrategy(devices.PAIR).scope() if strategy else None
    with scope or keras.device("cpu:0"):
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    x = np.zeros((4, 1))
    with pytest.raises(ValueError, match=r"needs a `tfdist\.ParameterServer"):
        model.fit(x, x, callbacks=[tfdist.callbacks.AsyncSGD()], verbose=0)
