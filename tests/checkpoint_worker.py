"""Trains under two workers and is killed on the way; run by the tests and the benchmark.

Usage: checkpoint_worker.py DIRECTORY OUT DATA KILLS

Each worker keeps its checkpoints in a directory of its own, as on machines that
share no disk. KILLS is a JSON list of `[rank, step]`, one for each start: that
worker kills itself after that training step. OUT.starts and OUT.kills tell when.
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

    class Clock(keras.callbacks.Callback):
        """Notes where each start goes on, and when; kills this worker where it shall."""

        went_on = False

        def on_train_batch_end(self, batch, logs=None):
            step = int(self.model.optimizer.iterations)
            if not self.went_on and tfdist.is_chief():
                self.note("starts", start, step, time.time())
            self.went_on = True
            if start < len(kills) and kills[start] == [tfdist.rank(), step]:
                self.note("kills", start, step, time.time())
                os.kill(os.getpid(), 9)

        def note(self, name, *values):
            with open(f"{out}.{name}", "a") as file:
                file.write(json.dumps(values) + "\n")

    directory = f"{directory}/worker-{tfdist.rank()}"
    result = cases.train(directory, strategy, data, clock=Clock())
    pathlib.Path(f"{out}.{tfdist.rank()}").write_bytes(pickle.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
