import types

import keras
import pytest
import tensorflow as tf

from tfdist.compat.replacing import replace


class Owner:
    def method(self, x):
        """What it does."""
        return x + 1


def twice(original):
    def method(self, x):
        return 2 * original(self, x)

    return method


def test_replace_keeps_name_documentation_and_the_original():
    class Mine(Owner):
        pass

    replace(Mine, "method", twice)
    assert Mine().method(3) == 8
    assert Mine.method.__wrapped__(Mine(), 3) == 4
    assert (Mine.method.__name__, Mine.method.__doc__) == ("method", "What it does.")
    assert Owner().method(3) == 4


@pytest.mark.parametrize(
    "owner, name", [(Owner, "Owner.missing"), (types.ModuleType("upstream.part"), "upstream.part")]
)
def test_a_name_that_is_gone_is_named_with_the_versions(owner, name):
    with pytest.raises(ImportError) as error:
        replace(owner, "missing", twice)
    text = str(error.value)
    assert name in text and "missing`" in text
    assert keras.__version__ in text and tf.__version__ in text
    assert "setup.cfg" in text
    assert not hasattr(owner, "missing")
