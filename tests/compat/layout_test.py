import keras
import pytest
from upstream import require_parameters, two_cpus

from tfdist import compat
from tfdist.compat import layout
from tfdist.compat.layout import Piece


@pytest.fixture(autouse=True)
def installed():
    compat.install()


def test_upstream():
    parameters = "self", "reference_variable", "name", "initializer"
    require_parameters(keras.optimizers.Optimizer.add_variable_from_reference, *parameters)


def variable(shape=(2, 3), strategy=None):
    with (strategy or two_cpus()).scope():
        return keras.Variable(keras.ops.zeros(shape), name="v")


def test_a_variable_is_alike_on_all_unless_it_is_marked():
    mine = variable()
    for each in (mine, mine.value):
        assert layout.is_alike(each) and not layout.is_own(each)
        assert layout.piece_of(each) is None


def test_both_variables_are_marked():
    own, piece = variable(), variable()
    layout.mark_own(own)
    layout.mark_piece(piece, Piece(whole=(2, 6), begin=3, dimension=1))
    for each in (own, own.value):
        assert layout.is_own(each) and not layout.is_alike(each)
        assert layout.piece_of(each) is None
    for each in (piece, piece.value):
        assert not layout.is_own(each) and not layout.is_alike(each)
        assert layout.piece_of(each) == Piece((2, 6), 3, 1, "data")


@pytest.mark.parametrize(
    "piece",
    [
        Piece(whole=(4, 4), begin=0),
        Piece(whole=(4, 3), begin=3),
        Piece(whole=(4, 3), begin=-1),
        Piece(whole=(4,), begin=0),
        Piece(whole=(4, 3), begin=0, dimension=2),
        Piece(whole=(4, 3), begin=0, dimension=1),
    ],
)
def test_what_is_no_part_of_the_whole_is_refused(piece):
    with pytest.raises(ValueError, match=r"shape \(2, 3\) was marked as Piece.*no part of it"):
        layout.mark_piece(variable(), piece)


@pytest.mark.parametrize("ema", [False, True])
def test_what_an_optimizer_keeps_for_a_piece_is_a_piece(ema):
    strategy = two_cpus()
    piece, whole = variable(strategy=strategy), variable(strategy=strategy)
    layout.mark_piece(piece, Piece(whole=(8, 3), begin=4))
    with strategy.scope():
        optimizer = keras.optimizers.Adam(use_ema=ema)
        optimizer.build([piece, whole])
    found = [layout.piece_of(v.value) for v in optimizer.variables if v.shape == (2, 3)]
    assert found.count(Piece((8, 3), 4)) == found.count(None) == (3 if ema else 2)
