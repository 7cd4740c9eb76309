import os

import pytest

from tfdist.cluster.gpus import divide_gpus, gpu_environments, remark, usable_gpus


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    for name in ("CUDA_VISIBLE_DEVICES", "TF_FORCE_GPU_ALLOW_GROWTH"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def see(monkeypatch):
    """Says which GPUs there are."""
    return lambda names: monkeypatch.setenv("CUDA_VISIBLE_DEVICES", names)


def test_the_devices_of_the_machine_are_counted(tmp_path):
    assert usable_gpus(tmp_path) == []
    # CUDA counts from zero, whatever the devices that a container was given are called.
    for name in ("nvidia2", "nvidia5", "nvidiactl", "nvidia-uvm", "nvidia-cap1"):
        (tmp_path / name).touch()
    assert usable_gpus(tmp_path) == ["0", "1"]


@pytest.mark.parametrize(
    "given, found",
    [
        ("3,1", ["3", "1"]),
        ("GPU-8f, GPU-2c", ["GPU-8f", "GPU-2c"]),
        ("", []),
        ("-1", []),
        ("2,-1,3", ["2"]),  # CUDA stops there
    ],
)
def test_what_the_user_lets_be_seen_is_all_there_is(see, given, found, tmp_path):
    (tmp_path / "nvidia0").touch()
    see(given)
    assert usable_gpus(tmp_path) == found


@pytest.mark.parametrize("count, workers", [(8, 2), (8, 3), (2, 2), (1, 1), (3, 1)])
def test_each_worker_has_as_many_and_none_is_shared(count, workers):
    parts = divide_gpus([str(i) for i in range(count)], workers)
    assert {len(part) for part in parts} == {count // workers}
    assert len({gpu for part in parts for gpu in part}) == workers * (count // workers)


def test_without_gpus_nothing_is_set(see):
    see("")
    assert gpu_environments(2, others=1) == [{}, {}, {}]
    assert remark(2) is None


def test_a_process_that_does_not_train_sees_none(see):
    see("4,5")
    assert [found["CUDA_VISIBLE_DEVICES"] for found in gpu_environments(2, others=2)] == [
        *("-1", "-1", "4", "5")
    ]
    assert "TF_FORCE_GPU_ALLOW_GROWTH" not in gpu_environments(2)[0]
    assert remark(2) is None


def test_workers_that_share_a_gpu_take_memory_as_they_need_it(see, monkeypatch):
    see("7")
    both = {"CUDA_VISIBLE_DEVICES": "7", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    assert gpu_environments(2) == [both, both]
    assert remark(2).startswith("2 workers share 1 GPU, which NCCL refuses")
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "false")  # the user knows better
    assert "TF_FORCE_GPU_ALLOW_GROWTH" not in gpu_environments(2)[0]


def test_what_is_left_over_is_said(see):
    see("0,1,2,3,4")
    assert remark(3) == "2 of 5 GPUs stay idle: each worker has as many"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1,2,3,4"
