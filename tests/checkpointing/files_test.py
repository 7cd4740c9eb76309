import json
import os
import resource
import zipfile

import numpy as np
import pytest

from tfdist.checkpointing.files import BrokenFile, WorkerFiles, age_of, name_of

ARRAYS = {"a": np.arange(6.0).reshape(2, 3), "b": np.array(3, np.int8)}


@pytest.fixture
def files(tmp_path):
    return WorkerFiles(tmp_path / "checkpoints", 1)


def test_what_is_written_is_read(files):
    files.write("step-00000003", {"epoch": 1}, ARRAYS)
    header, arrays = files.read("step-00000003")
    assert header["epoch"] == 1
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype


def test_it_is_an_archive_that_numpy_and_json_read(files):
    files.write("step-00000003", {"epoch": 1}, ARRAYS)
    with np.load(files.path("step-00000003"), allow_pickle=False) as archive:
        assert json.loads(bytes(archive["header"]))["epoch"] == 1
        np.testing.assert_array_equal(archive["a"], ARRAYS["a"])


def test_names_are_in_the_order_of_training():
    names = [name_of(step, phase) for step in (7, 120) for phase in ("step", "epoch", "end")]
    assert names[1] == "step-00000007-epoch"
    assert sorted(set(names), key=age_of) == names
    assert age_of("step-7") is None and age_of("notes") is None


def test_only_own_files_are_seen_and_removed(files, tmp_path):
    other = WorkerFiles(tmp_path / "checkpoints", 0)
    for step in (1, 2, 3):
        files.write(name_of(step, "step"), {}, {})
    other.write(name_of(1, "step"), {}, {})
    files.keep_newest(2)
    assert files.names() == ["step-00000002", "step-00000003"]
    assert other.names() == ["step-00000001"]
    other.remove("step-00000001")
    assert sorted(os.listdir(tmp_path / "checkpoints")) == files.names()  # no empty directory


def test_what_is_newer_is_removed_and_what_is_half_written(files):
    for step in (1, 2, 3):
        files.write(name_of(step, "step"), {}, {})
    partial = files.path("step-00000001").with_suffix(".partial")
    partial.write_bytes(b"half")
    files.remove_newer("step-00000002")
    assert files.names() == ["step-00000001", "step-00000002"]
    assert not partial.exists()
    files.remove_newer()
    assert files.names() == []


def test_every_broken_byte_of_the_content_is_noticed(files):
    files.write("step-00000003", {"epoch": 1}, ARRAYS)
    path = files.path("step-00000003")
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        begin = {i.filename: i.header_offset for i in archive.infolist()}
        sizes = {i.filename: i.compress_size for i in archive.infolist()}
    ends = [*sorted(begin.values())[1:], whole.index(b"PK\x01\x02")]
    noticed = 0
    for (name, _), end in zip(sorted(begin.items(), key=lambda pair: pair[1]), ends):
        for place in range(end - sizes[name], end):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
            with pytest.raises(BrokenFile, match=r"worker-1\.npz"):
                files.read("step-00000003")
            noticed += 1
    assert noticed > sum(array.nbytes for array in ARRAYS.values())


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_file_that_was_cut_short_is_noticed(files, share):
    files.write("step-00000003", {"epoch": 1}, ARRAYS)
    path = files.path("step-00000003")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(BrokenFile):
        files.read("step-00000003")


def test_where_the_system_refuses_to_write_the_one_before_stays_whole(files):
    files.write("step-00000001", {}, ARRAYS)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError):
            files.write("step-00000002", {}, {"large": np.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files.names() == ["step-00000001"]
    assert os.listdir(files.directory) == ["step-00000001"]
    files.read("step-00000001")
