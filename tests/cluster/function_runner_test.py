import io
import os
import pickle
import signal
import sys
import threading
import time

import pytest
import slowness
from programs import Programs, wait_until_gone

import tfdist
from tfdist.cluster import WorkerError
from tfdist.cluster.function_runner import run

# Functions defined inside of a test are sent by value.


def test_results_come_by_rank():
    def place(base, step=1):
        import json
        import os

        index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
        assert os.environ["TFDIST_LOCAL_WORLD_SIZE"] == "3"
        return base + step * index

    assert tfdist.run(place, workers=3, args=(10,), kwargs={"step": 2}) == [10, 12, 14]


def test_one_worker_has_no_cluster():
    def config():
        import os

        return os.environ.get("TF_CONFIG")

    assert run(config, workers=1) == [None]


def test_workers_divide_the_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    monkeypatch.setattr(sys, "stderr", io.StringIO())

    def visible():
        import os

        return os.environ["CUDA_VISIBLE_DEVICES"]

    assert tfdist.run(visible, workers=2, timeout=60) == ["4", "5"]
    assert sys.stderr.getvalue() == ("tfdist.run: 1 of 3 GPUs stay idle: each worker has 1\n")


def test_large_arrays_and_classes_come_back():
    import numpy as np

    class Result:
        def __init__(self, values):
            self.values = values

    def large(values):
        return Result(values * 2)

    values = np.arange(1_000_000.0)
    for result in run(large, args=(values,)):
        np.testing.assert_array_equal(result.values, values * 2)


def test_output_goes_to_the_stream_objects(monkeypatch):
    def talk():
        import sys

        print("out")
        print("err", file=sys.stderr)

    # As in a notebook: no file descriptor behind them.
    stdout, stderr = io.StringIO(), io.StringIO()
    monkeypatch.setattr("sys.stdout", stdout)
    monkeypatch.setattr("sys.stderr", stderr)
    run(talk)
    assert sorted(stdout.getvalue().splitlines()) == ["[worker 0] out", "[worker 1] out"]
    assert sorted(stderr.getvalue().splitlines()) == ["[worker 0] err", "[worker 1] err"]


def test_an_exception_ends_the_others(tmp_path):
    def fail_in_one(directory):
        import os
        import pathlib
        import time

        rank = os.environ["TFDIST_LOCAL_RANK"]
        (pathlib.Path(directory) / rank).write_text(str(os.getpid()))
        if rank == "1":
            while not (pathlib.Path(directory) / "0").exists():
                time.sleep(0.01)
            raise ValueError("mine alone")
        time.sleep(600)

    with pytest.raises(WorkerError, match="worker 1 raised an exception") as caught:
        run(fail_in_one, args=(str(tmp_path),))
    assert isinstance(caught.value, RuntimeError)
    assert caught.value.rank == 1
    assert "in fail_in_one" in caught.value.traceback
    assert caught.value.traceback.rstrip().endswith("ValueError: mine alone")
    assert "mine alone" in str(caught.value)
    assert isinstance(caught.value.__cause__, ValueError)
    wait_until_gone([int((tmp_path / rank).read_text()) for rank in "01"])


def test_the_error_can_be_pickled():
    error = pickle.loads(pickle.dumps(WorkerError(3, "raised:", "its traceback")))
    assert (error.rank, error.traceback) == (3, "its traceback")
    assert str(error) == "worker 3 raised:\n\nits traceback"


@pytest.mark.parametrize(
    "end, words",
    [
        ("os.kill(os.getpid(), 11)", "was killed by signal 11 (SIGSEGV), before it returned"),
        ("os._exit(5)", "failed with exit code 5, before it returned"),
        ("os._exit(0)", "ended, before it returned"),
        ("sys.exit(0)", "SystemExit: 0"),
        ("atexit.register(os._exit, 4)", "returned, and then failed with exit code 4"),
    ],
)
def test_a_worker_that_dies(end, words):
    def die(end):
        import atexit
        import os
        import sys

        print("last words", flush=True)
        exec(end, {"os": os, "sys": sys, "atexit": atexit})

    with pytest.raises(WorkerError) as caught:
        run(die, workers=1, args=(end,))
    assert words in str(caught.value)


def test_a_result_that_cannot_be_sent():
    def lock():
        import threading

        return threading.Lock()

    with pytest.raises(WorkerError, match="the result of worker 0, a lock, cannot be sent back"):
        run(lock, workers=1)


def test_an_exception_that_cannot_be_sent_is_still_told():
    def fail():
        class Odd(Exception):
            def __init__(self, one, two):
                super().__init__("odd one")

        raise Odd(1, 2)

    with pytest.raises(WorkerError, match="odd one") as caught:
        run(fail, workers=1)
    assert caught.value.__cause__ is None


def test_timeout_names_those_that_have_not_returned():
    def wait_in_two():
        import os
        import time

        if os.environ["TFDIST_LOCAL_RANK"] != "1":
            time.sleep(600)

    timeout = round(slowness.seconds(3))
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=rf"within {timeout} s, and all were ended: 0, 2$"):
        run(wait_in_two, workers=3, timeout=timeout)
    assert time.monotonic() - began < timeout + slowness.seconds(10)


def test_it_runs_in_another_thread():
    results = []

    def double():
        return 2

    thread = threading.Thread(target=lambda: results.append(run(double, workers=2)))
    thread.start()
    thread.join(30)
    assert results == [[2, 2]]


def test_what_cannot_be_run():
    with pytest.raises(TypeError, match="expects a function to run; received 3"):
        run(3)
    with pytest.raises(ValueError, match="workers must be at least 1; received 0"):
        run(len, workers=0)
    with pytest.raises(TypeError, match=r"workers must be a whole number; received 1\.5"):
        run(len, workers=1.5)
    with pytest.raises(ValueError, match="timeout must be more than 0"):
        run(len, timeout=0)


def test_what_cannot_be_sent():
    lock = threading.Lock()

    def hold():
        return lock

    with pytest.raises(TypeError, match=r"hold or its arguments cannot be sent .*lock"):
        run(hold)


_MAIN = """
import os, time
import tfdist

def talk(word):
    print(word, os.getpid(), __name__, flush=True)
    time.sleep(seconds)
    return word

seconds = %d
print(tfdist.run(talk, args=("pid",)), flush=True)
"""


def test_functions_of_a_script_are_sent_by_value(tmp_path):
    (tmp_path / "script.py").write_text(_MAIN % 0)  # without `if __name__ == "__main__"`
    with Programs() as programs:
        script = programs.start([sys.executable, tmp_path / "script.py"])
        assert script.wait() == 0, script.err
        assert script.out.splitlines()[-1] == "['pid', 'pid']"
        assert len(script.out.splitlines()) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_workers_end_with_their_caller(tmp_path, number):
    (tmp_path / "script.py").write_text(_MAIN % 600)
    with Programs() as programs:
        script = programs.start([sys.executable, tmp_path / "script.py"])
        lines = script.wait_for(" pid ", 2).splitlines()
        script.signal(number)
        assert script.wait() != 0
        if number == signal.SIGINT:
            assert script.err.rstrip().endswith("KeyboardInterrupt")
        wait_until_gone([int(line.split()[3]) for line in lines])


def test_nothing_is_left_in_the_temporary_directory(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run(lambda: None, workers=1)
    with pytest.raises(WorkerError):
        run(lambda: 1 / 0, workers=1)
    assert os.listdir(tmp_path) == []
