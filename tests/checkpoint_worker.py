"""Trains under two workers and is killed on the way; run by the tests and the benchmark.

Usage: checkpoint_worker.py DIRECTORY OUT DATA KILLS

Each worker keeps its checkpoints in a directory of its own, as on machines that
share no disk. KILLS is a JSON list of `[rank, steps]`, one for each start: that
worker kills itself after so many steps of that start.
"""

import json
import os
import pathlib
import pickle
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def main(directory, out, data, kills):
    import tensorflow as tf

    import tfdist

    strategy = tfdist.MultiWorkerMirroredStrategy()
    tf.config.experimental.enable_op_determinism()
    import checkpoint_cases as cases
    import keras

    start = int(os.environ.get("TFDIST_RESTART_COUNT", "0"))
    kills = json.loads(kills)
    crash = None
    if start < len(kills) and kills[start][0] == tfdist.rank():
        crash = cases.CrashAt(kills[start][1], kill=True)

    class Clock(keras.callbacks.Callback):
        """Notes where each start goes on, and when."""

        first = None

        def on_train_batch_end(self, batch, logs=None):
            if self.first is None and tfdist.is_chief():
                self.first = (start, int(self.model.optimizer.iterations), time.time())
                with open(f"{out}.starts", "a") as file:
                    file.write(json.dumps(self.first) + "\n")

    result = cases.train(
        f"{directory}/worker-{tfdist.rank()}", strategy, data, crash, clock=Clock()
    )
    pathlib.Path(f"{out}.{tfdist.rank()}").write_bytes(pickle.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
