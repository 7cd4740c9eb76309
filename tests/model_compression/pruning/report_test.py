import json

from pruning_cases import SIZES, build, fit

from tfdist import model_compression as compression


def test_report():
    model = build()
    pruning = compression.prune(model, schedule=compression.Constant(final=0.75))
    assert pruning.report().sparsity == 0.0
    fit(model, pruning, epochs=1)
    report = pruning.report()
    assert [(one.weights, one.zeros) for one in report.pruned] == [
        (size, round(0.75 * size)) for size in SIZES.values()
    ]
    assert report.parameters == model.count_params()
    text = str(report)
    assert "convolution/kernel" in text and "75.00%" in text
    assert "skipped: no kernel that is known of a BatchNormalization" in text
    assert json.loads(json.dumps(report.to_dict()))["sparsity"] == 0.75
