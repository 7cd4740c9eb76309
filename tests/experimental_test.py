import pytest
import tensorflow as tf

import tfdist
from tfdist import experimental

OURS = {"MultiWorkerMirroredStrategy", "ParameterServerStrategy", "TPUStrategy"}
THEIRS = {name for name in dir(tf.distribute.experimental) if not name.startswith("_")}


def test_it_has_what_tensorflows_has():
    assert set(dir(experimental)) == THEIRS - {"CentralStorageStrategy"}


@pytest.mark.parametrize("name", sorted(THEIRS - {"CentralStorageStrategy"}))
def test_strategies_are_tfdists_and_all_else_is_tensorflows(name):
    owner = tfdist if name in OURS else tf.distribute.experimental
    assert getattr(tfdist.experimental, name) is getattr(owner, name)


@pytest.mark.parametrize("module", [tfdist, experimental], ids=lambda module: module.__name__)
def test_what_cannot_serve_says_what_can(module):
    with pytest.raises(AttributeError, match=r"Use `tfdist\.MirroredStrategy\(\)`"):
        _ = module.CentralStorageStrategy


def test_an_unknown_name_says_so():
    with pytest.raises(AttributeError, match=r"'tfdist\.experimental' has no attribute 'Tpu'"):
        _ = tfdist.experimental.Tpu
