import numpy as np
import pytest

from tfdist.strategies.place import AXES, Mesh, Place


@pytest.mark.parametrize("sizes", [(1, 1, 1), (4, 1, 1), (1, 1, 2), (2, 3, 4), (3, 2, 1)])
def test_coordinates_are_those_of_an_array_in_rows(sizes):
    mesh = Mesh(*sizes)
    assert mesh.size == np.prod(sizes) and mesh.sizes == sizes
    for rank in range(mesh.size):
        expected = dict(zip(AXES, map(int, np.unravel_index(rank, sizes))))
        assert mesh.coordinates(rank) == expected


def test_replicas_follow_the_axis_of_data():
    mesh = Mesh(data=2, stage=3, model=2)
    places = [Place(mesh, rank, num_local_replicas=4) for rank in range(mesh.size)]
    assert {place.num_replicas for place in places} == {8}
    assert [place.data_index for place in places] == [0] * 6 + [1] * 6
    assert [place.first_replica for place in places] == [0] * 6 + [4] * 6


def test_one_process_is_one_replica():
    place = Place()
    assert (place.num_replicas, place.num_local_replicas, place.first_replica) == (1, 1, 0)


@pytest.mark.parametrize("size", [0, -1, 2.0, None])
def test_bad_sizes(size):
    with pytest.raises(ValueError, match=rf"Mesh\(model={size}\): expected an int of at least 1"):
        Mesh(model=size)


@pytest.mark.parametrize("rank", [-1, 4])
def test_a_rank_that_is_not_there(rank):
    with pytest.raises(ValueError, match=f"rank={rank}: expected one from 0 to 3"):
        Mesh(data=2, model=2).coordinates(rank)
