"""Reading input pipelines with tf.data's autotuner and without it.

    python benchmarks/autotuning.py [--rounds 5] [--seconds 3] [--pipelines NAME ...]

Each pipeline is read by plain TensorFlow, with the autotuner as it is by default, and as tfdist
reads it (`tfdist/data/reading.py`); alone, and beside a "training step" (a matrix product of
some milliseconds a batch). The sides take turns. A figure is the median over the rounds of
batches a second once a second has passed; "end" is the longest time that deleting an iterator
took, which waits for the autotuner.
"""

import argparse
import pathlib
import statistics
import sys
import tempfile
import time

import numpy as np
import pages
import sklearn.datasets
import tensorflow as tf

from tfdist.data.reading import without_autotuner

AUTOTUNE = tf.data.AUTOTUNE
WARM_UP_S = 1.0


def image_parts():
    """List of JPEGs, 200 different parts of scikit-learn's two photographs."""
    random = np.random.default_rng(0)
    photos = sklearn.datasets.load_sample_images().images
    jpegs = []
    for number in range(200):
        photo = photos[number % 2]
        top, left = (random.integers(0, size - 200) for size in photo.shape[:2])
        jpegs.append(tf.io.encode_jpeg(photo[top : top + 200, left : left + 200]).numpy())
    return jpegs


def image(jpeg):
    small = tf.image.resize(tf.io.decode_jpeg(jpeg, channels=3), (64, 64))
    return tf.image.adjust_contrast(tf.image.random_flip_left_right(small, seed=1), 1.2) / 255.0


def pipelines(folder):
    """Dict of functions that make a dataset of batches, by name."""
    x, y = sklearn.datasets.load_digits(return_X_y=True)
    x, y = np.tile(x, (20, 1)).astype("float32"), np.tile(y, 20)
    jpegs = image_parts()
    for number in range(8):
        with tf.io.TFRecordWriter(f"{folder}/{number}.tfrecord") as writer:
            for row in x[number::8]:
                writer.write(row.tobytes())
    files = sorted(str(path) for path in pathlib.Path(folder).iterdir())

    def rows():
        return tf.data.Dataset.from_tensor_slices((x, y)).shuffle(1000).repeat()

    def as_fit_does():
        """Keras' own pipeline for arrays: places of rows, shuffled, then looked up."""
        order = tf.data.Dataset.range(len(x)).shuffle(len(x)).repeat().batch(64)
        taken = order.map(lambda i: (tf.gather(x, i), tf.gather(y, i)), num_parallel_calls=AUTOTUNE)
        return taken.prefetch(AUTOTUNE)

    def of_jpegs(calls, prefetch=True):
        jpeg = tf.data.Dataset.from_tensor_slices(jpegs).shuffle(200).repeat()
        batches = jpeg.map(image, num_parallel_calls=calls).batch(32)
        return batches.prefetch(AUTOTUNE) if prefetch else batches

    def parsed(record):
        return tf.io.decode_raw(record, tf.float32)

    def of_files():
        names = tf.data.Dataset.from_tensor_slices(files).repeat()
        records = names.interleave(
            tf.data.TFRecordDataset, cycle_length=4, num_parallel_calls=AUTOTUNE
        )
        return records.map(parsed, num_parallel_calls=AUTOTUNE).batch(64).prefetch(AUTOTUNE)

    return {
        "arrays, as `fit` reads them": as_fit_does,
        "rows, batched": lambda: rows().batch(64),
        "rows, batched in parallel": lambda: rows().batch(64, num_parallel_calls=AUTOTUNE),
        "rows, light map": lambda: (
            rows()
            .map(lambda a, b: (a / 16.0, b), num_parallel_calls=AUTOTUNE)
            .batch(64)
            .prefetch(AUTOTUNE)
        ),
        "batches, light map": lambda: (
            rows().batch(64).map(lambda a, b: (a / 16.0, b), AUTOTUNE).prefetch(AUTOTUNE)
        ),
        "JPEGs, parallel map": lambda: of_jpegs(AUTOTUNE),
        "JPEGs, sequential map": lambda: of_jpegs(None),
        "JPEGs, sequential map, no prefetch": lambda: of_jpegs(None, prefetch=False),
        "files, parallel interleave": of_files,
    }


def batches_a_second(dataset, autotune, work, seconds):
    """Reads for `seconds`; returns batches a second, and how long the iterator's end took."""
    if not autotune:
        dataset = without_autotuner(dataset)
    iterator = iter(dataset)
    begin = time.perf_counter()
    while time.perf_counter() < begin + WARM_UP_S:
        next(iterator)
        work()
    count, begin = 0, time.perf_counter()
    while (now := time.perf_counter()) < begin + seconds:
        next(iterator)
        work()
        count += 1
    del iterator
    return count / (now - begin), time.perf_counter() - now


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--pipelines", nargs="+", metavar="NAME")
    arguments = parser.parse_args()
    matrix = tf.random.normal((512, 512), seed=1)
    works = {"alone": lambda: None, "beside a step": lambda: tf.matmul(matrix, matrix).numpy()}
    with tempfile.TemporaryDirectory() as folder:
        every = pipelines(folder)
        for name in arguments.pipelines or every:
            make = every[name]
            for how, work in works.items():
                rates, ends = {True: [], False: []}, {True: [], False: []}
                for _ in range(arguments.rounds):
                    for autotune in (True, False):
                        rate, end = batches_a_second(make(), autotune, work, arguments.seconds)
                        rates[autotune].append(rate)
                        ends[autotune].append(end)
                row = {"pipeline": name, "read": how, "with": rates[True], "without": rates[False]}
                row |= {"end_with": ends[True], "end_without": ends[False]}
                pages.append("autotuning", row)
                print(f"{name}, {how}: {ratio_of(row):.2f}", file=sys.stderr, flush=True)
    pages.publish("autotuning")


def ratio_of(row):
    """Batches a second without the autotuner to those with it, the median of the rounds."""
    return statistics.median(b / a for a, b in zip(row["with"], row["without"]))


def shown(rows):
    """The last row of each pipeline and way to read it."""
    return list({(row["pipeline"], row["read"]): row for row in rows}.values())


def tables(rows):
    titles = ["pipeline", "read", "with", "without", "ratio", "end, with", "end, without"]
    lines = []
    for row in rows:
        rates = [f"{statistics.median(row[side]):.0f}" for side in ("with", "without")]
        ends = [f"{max(row[side]):.1f} s" for side in ("end_with", "end_without")]
        lines.append([row["pipeline"], row["read"], *rates, f"{ratio_of(row):.2f}", *ends])
    return pages.table(titles, lines)


if __name__ == "__main__":
    main()
