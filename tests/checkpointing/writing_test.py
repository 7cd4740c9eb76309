import numpy as np

from tfdist.checkpointing.files import WorkerFiles
from tfdist.checkpointing.writing import write


def test_what_another_worker_could_not_write_is_on_none(tmp_path):
    files, arrays = WorkerFiles(tmp_path, 0), {"a": np.ones(2)}
    problem = "worker 1 could not write there: No space left on device"

    def write_beside(name, other):
        return write(files, name, {}, arrays, lambda _, mine: [mine, {"problem": other}])

    assert write_beside("step-00000001", None) == ""
    assert write_beside("step-00000002", problem) == problem
    assert files.names() == ["step-00000001"]
