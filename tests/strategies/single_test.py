import devices
import tensorflow as tf

import tfdist
from tfdist.strategies.single import NoStrategy, answering


def test_what_is_not_tfdists_answers_as_one_process():
    for strategy in (None, tf.distribute.get_strategy(), tfdist.OneDeviceStrategy("CPU:0")):
        answers = answering(strategy)
        assert isinstance(answers, NoStrategy) and not answers.is_tfdist
        assert answers.is_chief and not answers.is_asynchronous
        assert (answers.num_workers, answers.worker_index) == (1, 0)
        assert (answers.num_replicas_in_sync, answers.num_local_replicas) == (1, 1)
        assert answers.exchange("facts", {"a": 1}) == [{"a": 1}]
        with answers.scope(), answers.watching("nobody"), answers.distributing_for_keras():
            assert not tf.distribute.has_strategy()


def test_tfdists_answer_for_themselves():
    strategy = tfdist.MirroredStrategy(devices.PAIR)
    assert answering(strategy) is strategy
