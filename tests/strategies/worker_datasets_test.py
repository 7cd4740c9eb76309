from tfdist.strategies.worker_datasets import WorkerIterators


def test_an_epoch_ends_when_all_workers_have_ended():
    # How they read is what `parameter_server_test.py` is about: it needs workers.
    iterators = WorkerIterators(2, "remote", "spec")
    assert iter(iterators) is iterators
    iterators.ended.add(1)
    assert not iterators.all_ended()
    iterators.ended |= {0, 1}
    assert iterators.all_ended()
