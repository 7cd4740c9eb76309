from tfdist import compat
from tfdist.compat import losses, normalization, optimizer, random, saving, trainer
from tfdist.compat import variables as compat_variables


def test_it_happens_once(monkeypatch):
    compat.install()

    def again():
        raise AssertionError("installed twice")

    for module in (losses, normalization, optimizer, random, saving, trainer, compat_variables):
        monkeypatch.setattr(module, "install", again)
    compat.install()
