import zlib

import numpy as np
import pandas
import pytest
import tensorflow as tf

from tfdist.data.fingerprint import fingerprints

MANY = np.arange(3000.0).reshape(1000, 3)


def one(array):
    (line,) = fingerprints({"x": array})
    return line


def test_a_line_says_what_an_array_is():
    small = np.arange(6, dtype="float32").reshape(3, 2)
    assert one(small) == f"x (3, 2) float32 with contents {zlib.crc32(small.tobytes()):08x}"


def test_structures_have_a_line_for_each_array():
    given = {"x": {"b": MANY, "a": MANY[:, 0]}, "y": [MANY, None], "sample_weight": None}
    starts = [line.split(" with")[0] for line in fingerprints(given)]
    assert starts == ["x (1000,) float64", "x (1000, 3) float64", "y (1000, 3) float64"]


@pytest.mark.parametrize(
    "other",
    [
        MANY[:-1],
        MANY.astype("float32"),
        MANY[::-1],
        MANY + 1.0,
        np.random.default_rng(0).permutation(MANY),
    ],
)
def test_other_arrays_have_other_lines(other):
    assert one(other) != one(MANY)
    assert one(MANY.copy()) == one(np.asfortranarray(MANY)) == one(MANY)


def test_tensors_are_as_arrays():
    assert one(tf.constant(MANY)) == one(MANY)


def test_strings():
    words = np.array(["one", "two", "three"])
    assert one(words) != one(np.array(["one", "two", "eight"]))
    assert one(words.astype(object)) != one(words[::-1].astype(object))


def test_frames():
    frame = pandas.DataFrame({"a": [1, 2], "b": [0.5, 1.5]})
    assert one(frame) == one(frame.to_numpy()) != one(frame + 1)


def test_an_array_without_rows():
    assert one(MANY[:0]) == "x (0, 3) float64 with contents 00000000"


def test_what_is_neither_array_nor_dataset_has_no_line():
    others = [iter([1]), 3, np.float32(3), None, tf.ragged.constant([[1], [2, 3]])]
    assert fingerprints({"x": others}) == []


def slices(array=MANY, shard=0, seed=3, batch=8):
    dataset = tf.data.Dataset.from_tensor_slices({"a": array, "b": array[:, 0]})
    return dataset.shard(2, shard).shuffle(10, seed=seed).map(lambda x: x["a"]).batch(batch)


def test_a_dataset_is_what_it_was_made_with():
    tf.random.set_seed(1)
    assert fingerprints({"x": slices()}) == [
        "x BatchDataset.batch_size 8",
        "x ShuffleDataset.seed 1",
        "x ShuffleDataset.seed2 3",
        "x ShardDataset.num_shards 2",
        "x ShardDataset.index 0",
        f"x TensorSliceDataset.tensors{one(MANY)[1:]}",
        f"x TensorSliceDataset.tensors{one(MANY[:, 0])[1:]}",
    ]


@pytest.mark.parametrize("other", [{"array": MANY + 1}, {"shard": 1}, {"seed": 4}, {"batch": 9}])
def test_other_datasets_have_other_lines(other):
    lines = [fingerprints({"x": slices(**made)}) for made in ({}, {}, other)]
    assert lines[0] == lines[1] != lines[2]
    assert len(lines[0]) == len(lines[2])


@pytest.mark.parametrize("make", [tf.data.TextLineDataset, tf.data.TFRecordDataset])
def test_files_are_known_by_their_names_and_not_by_their_directories(make):
    here, there, other = (
        fingerprints({"x": make([f"{place}/1.txt", f"{place}/{last}.txt"])})
        for place, last in (("/a", 2), ("/b", 2), ("/a", 3))
    )
    assert here == there != other


@pytest.mark.parametrize("policy", ["FILE", "HINT", "OFF"])
def test_a_dataset_of_each_workers_own_has_no_line(policy):
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy[policy]
    assert fingerprints({"x": slices().with_options(options)}) == []
