import threading

import numpy as np
import pytest
import tensorflow as tf
from rings import on_workers

from tfdist.sync.buffers import Buffers


def test_results_stay_what_they_are_in_later_calls():
    def program(ring):
        kept = [ring.all_reduce([np.full(9, ring.index + step)])[0] for step in range(6)]
        return [list(one) for one in kept]

    for result in on_workers(2, program):
        assert result == [[1 + 2 * step] * 9 for step in range(6)]


def test_memory_is_used_again():
    def program(ring):
        places = set()
        for _ in range(10):
            (total,) = ring.all_reduce([np.ones(1000)])
            places.add(total.ctypes.data)
            assert total.ctypes.data % 64 == 0
            del total
        return len(places)

    assert on_workers(2, program) == [1, 1]


FLOAT = np.dtype(np.float32)


def place(array):
    return array.ctypes.data


def fill(buffers, size, times=8):
    """Takes memory again and again, writes to it, and lets go of it."""
    places = set()
    for _ in range(times):
        array = buffers.take(FLOAT, size)
        array[...] = -1
        places.add(place(array))
        del array
    return places


@pytest.mark.parametrize(
    "hold",
    [
        lambda array: array[10:20],
        lambda array: array[10:20].reshape(2, 5).T[1:],
        lambda array: memoryview(array),
        lambda array: array.view(np.uint8)[40:80].view(np.int32),
        lambda array: tf.convert_to_tensor(array),
        lambda array: tf.numpy_function(lambda: array[16:32], [], tf.float32),
        lambda array: tf.reshape(tf.numpy_function(lambda: array, [], tf.float32), [10, -1])[1],
    ],
    ids=["a view", "views of views", "a buffer", "other dtypes", "a tensor", "returned", "a slice"],
)
def test_memory_that_somebody_holds_a_part_of_is_not_used_again(hold):
    buffers = Buffers()
    array = buffers.take(FLOAT, 100)
    array[...] = np.arange(100)
    held = hold(array)
    before = np.array(held)
    del array
    fill(buffers, 100)
    np.testing.assert_array_equal(np.array(held), before)
    del held
    assert len(fill(buffers, 100)) == 1  # and then it is


def test_memory_is_known_by_its_size_and_a_few_pieces_are_kept():
    buffers = Buffers()
    many = [buffers.take(FLOAT, 1000) for _ in range(10)]
    assert len({place(one) for one in many}) == 10
    del many
    again = [buffers.take(FLOAT, 1000) for _ in range(10)]
    assert len(buffers._free[4000]) == 0
    del again
    assert len(buffers._free[4000]) == 3
    other = buffers.take(np.dtype(np.float64), 500)  # as many bytes
    assert len(buffers._free[4000]) == 2 and other.shape == (500,)


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16, tf.bool, tf.complex64])
def test_any_dtype(dtype):
    given = np.ones(5, dtype.as_numpy_dtype)
    flat, (part,) = Buffers().flatten([given])
    assert part.dtype == flat.dtype == given.dtype
    np.testing.assert_array_equal(part, given)


def test_no_elements_are_an_array_too():
    assert Buffers().take(FLOAT, 0).shape == (0,)
    flat, (part,) = Buffers().flatten([np.zeros((0, 3), np.float32)])
    assert flat.shape == (0,) and part.shape == (0, 3)


def test_another_thread_may_let_go_of_it():
    buffers = Buffers()
    held = [buffers.take(FLOAT, 100)]
    first = place(held[0])
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    assert fill(buffers, 100) == {first}
