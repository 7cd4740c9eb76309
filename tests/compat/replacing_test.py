import types

import keras
import pytest
import tensorflow as tf

from tfdist.compat.replacing import PATCHES, replace


class Owner:
    def method(self, x):
        """What it does."""
        return x + 1


def twice(original):
    def method(self, x):
        return 2 * original(self, x)

    return method


@pytest.fixture
def forgotten():
    """What a test replaces does not stay on the list."""
    before = PATCHES[:]
    yield
    PATCHES[:] = before


def test_replace_keeps_name_documentation_and_the_original(forgotten):
    class Mine(Owner):
        pass

    replace(Mine, "method", twice, "always", "doubles")
    assert Mine().method(3) == 8
    assert Mine.method.__wrapped__(Mine(), 3) == 4
    assert (Mine.method.__name__, Mine.method.__doc__) == ("method", "What it does.")
    assert Owner().method(3) == 4
    assert PATCHES[-1] == (__name__, Mine, "method", None, "always", "doubles")


def test_a_property_stays_one(forgotten):
    class Mine:
        @property
        def size(self):
            """How much it holds."""
            return 4

    replace(Mine, "size", lambda original: lambda self: 2 * original(self), "always", "doubles")
    assert Mine().size == 8 and Mine.size.__doc__ == "How much it holds."
    assert Mine.size.fget.__wrapped__(Mine()) == 4


@pytest.mark.parametrize(
    "owner, name", [(Owner, "Owner.missing"), (types.ModuleType("upstream.part"), "upstream.part")]
)
def test_a_name_that_is_gone_is_named_with_the_versions(owner, name):
    with pytest.raises(ImportError) as error:
        replace(owner, "missing", twice, "always", "doubles")
    text = str(error.value)
    assert name in text and "missing`" in text
    assert keras.__version__ in text and tf.__version__ in text
    assert "setup.cfg" in text
    assert not hasattr(owner, "missing")
