import pytest
import sync_oracle as oracle
import sync_replicas

from tfdist.sync.sync_sgd import SyncSGD


@pytest.mark.parametrize("workers", [2, 4])
def test_it_is_synchronous_sgd(workers):
    optimizer = oracle.SGD(0.05, momentum=0.9)
    expected = oracle.train(workers, oracle.Synchronous(), optimizer)
    trained = sync_replicas.train(SyncSGD, workers, optimizer)
    sync_replicas.assert_is(trained, expected, SyncSGD(), 1e-12)


def test_without_a_compressor_all_replicas_always_agree():
    algorithm = SyncSGD()
    assert not algorithm.local
    assert all(algorithm.agrees_at(step) for step in range(5))


@pytest.mark.parametrize("workers", [2, 4])
def test_bytes_per_step_are_those_that_are_sent(workers):
    trained = sync_replicas.train(SyncSGD, workers, oracle.SGD(0.05), "float32")
    said = SyncSGD().bytes_per_step([(3, 2), (2,)], workers)
    assert trained.sent.mean() == said == 2 * (workers - 1) / workers * 8 * 4


def test_its_config():
    assert SyncSGD().get_config() == {"compressor": None, "warmup_steps": 0}
