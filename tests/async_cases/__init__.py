"""What one cluster with parameter servers does for `parameter_server_test.py`, case by case.

`run` is called by `tfdist.run` on a coordinator; it returns what each case found, or the
traceback of what it raised.
"""

import traceback

from async_cases import epochs, one_process, settings, steps

CASES = {
    case.__name__: case
    for case in (
        epochs.each_example_once,
        epochs.evaluate_and_predict,
        epochs.dataset_function,
        one_process.one_at_a_time,
        steps.staleness,
        steps.claims,
        steps.locks,
        settings.callbacks,
        one_process.embeddings,
        settings.refusals,
        epochs.aftermath,
        steps.dropout,
        steps.recorded_order,
    )
}


def run():
    """Runs all cases; returns a dict of results, or of tracebacks as text, by name."""
    import tensorflow as tf

    import tfdist

    parts = tf.distribute.experimental.partitioners.FixedShardsPartitioner(2)
    strategy = tfdist.ParameterServerStrategy(variable_partitioner=parts)
    found = {}
    for name, case in CASES.items():
        try:
            found[name] = case(strategy)
        except Exception:
            found[name] = traceback.format_exc()
    return found
