import pytest

from tfdist.cluster import gpus
from tfdist.cluster.gpus import divide_gpus, gpu_environments, usable_gpus


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    for name in ("CUDA_VISIBLE_DEVICES", "TF_FORCE_GPU_ALLOW_GROWTH"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def see(monkeypatch):
    """Says which GPUs there are."""
    return lambda names: monkeypatch.setenv("CUDA_VISIBLE_DEVICES", names)


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Puts a program of that name, which prints a text, alone on the path."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    gpus._listed.cache_clear()

    def write(text, code=0):
        (tmp_path / "bin").mkdir()
        path = tmp_path / "bin" / "nvidia-smi"
        path.write_text(f"#!/bin/sh\necho '{text}'\nexit {code}\n")
        path.chmod(0o755)

    yield write
    gpus._listed.cache_clear()


def test_nvidia_smi_is_asked(nvidia_smi, tmp_path):
    nvidia_smi("GPU 0: NVIDIA H100 (UUID: GPU-1)\n  MIG 1g.5gb Device 0: (UUID: MIG-2)\nGPU 1: A")
    (tmp_path / "nvidia0").touch()
    assert usable_gpus(tmp_path) == ["0", "1"]


def test_else_the_devices_of_the_machine_are_counted(nvidia_smi, tmp_path):
    assert usable_gpus(tmp_path) == []
    # CUDA counts from zero, whatever the devices that a container was given are called.
    for name in ("nvidia2", "nvidia5", "nvidiactl", "nvidia-uvm", "nvidia-cap1"):
        (tmp_path / name).touch()
    assert usable_gpus(tmp_path) == ["0", "1"]
    gpus._listed.cache_clear()
    nvidia_smi("NVIDIA-SMI has failed", code=9)
    assert usable_gpus(tmp_path) == ["0", "1"]


@pytest.mark.parametrize(
    "given, found",
    [
        ("3,1", ["3", "1"]),
        ("GPU-8f, GPU-2c", ["GPU-8f", "GPU-2c"]),
        ("", []),
        ("-1", []),
        ("2,-1,3", ["2"]),  # CUDA stops there
        ("NoDevFiles", []),  # Slurm's for none
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
    assert gpu_environments(2, others=1) == ([{}, {}, {}], None)


def visible(environments):
    return [found["CUDA_VISIBLE_DEVICES"] for found in environments]


def test_a_process_that_does_not_train_sees_none(see):
    see("4,5")
    environments, remark = gpu_environments(2, others=2, parameter_servers=1)
    assert (visible(environments), remark) == (["-1", "-1", "4", "5"], None)
    assert "TF_FORCE_GPU_ALLOW_GROWTH" not in environments[2]


def test_a_worker_of_parameter_servers_has_one_replica(see):
    see("0,1,2,3")
    environments, remark = gpu_environments(2, parameter_servers=1)
    assert visible(environments) == ["0", "2"]
    assert remark == "2 of 4 GPUs stay idle: each worker has 1"


def test_workers_that_share_a_gpu_take_memory_as_they_need_it(see, monkeypatch):
    see("7")
    both = {"CUDA_VISIBLE_DEVICES": "7", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    environments, remark = gpu_environments(2)
    assert environments == [both, both]
    assert remark.startswith("2 workers share 1 GPU, which NCCL refuses")
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "false")  # the user knows better
    assert "TF_FORCE_GPU_ALLOW_GROWTH" not in gpu_environments(2)[0][0]


def test_what_is_left_over_is_said(see):
    see("0,1,2,3,4")
    environments, remark = gpu_environments(2)
    assert visible(environments) == ["0,1", "2,3"]
    assert remark == "1 of 5 GPUs stay idle: each worker has 2"
