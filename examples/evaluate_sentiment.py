"""Sentiment of real reviews: how good a model is, what to decide by, and a report to show.

python examples/evaluate_sentiment.py
tfdist run -n 2 examples/evaluate_sentiment.py
"""

import argparse
import collections

import chinese_sentiment_data
import keras
import numpy as np

import tfdist

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--examples", type=int, help="how many reviews; all without it")
parser.add_argument("--epochs", type=int, default=4)
parser.add_argument("--report", default="sentiment.html", help="where the chief writes the report")
args = parser.parse_args()
LENGTH, CHARACTERS = 80, 3000

keras.utils.set_random_seed(1)
strategy = tfdist.auto_strategy()

texts, labels = chinese_sentiment_data.load()
texts, labels = texts[: args.examples], labels[: args.examples]
train, validation, test = np.split(
    np.arange(len(texts)), [len(texts) * 7 // 10, len(texts) * 85 // 100]
)
counts = collections.Counter(character for i in train for character in texts[i])
numbers = {character: n + 2 for n, (character, _) in enumerate(counts.most_common(CHARACTERS))}
x = np.zeros((len(texts), LENGTH), "int32")  # 0: padding, 1: a rare character
for row, text in zip(x, texts):
    row[: min(len(text), LENGTH)] = [numbers.get(character, 1) for character in text[:LENGTH]]

with strategy.scope():
    model = keras.Sequential(
        [
            keras.Input((LENGTH,), dtype="int32"),
            keras.layers.Embedding(CHARACTERS + 2, 48),
            keras.layers.Conv1D(96, 3, activation="relu"),  # three characters: a word or so
            keras.layers.GlobalMaxPooling1D(),
            keras.layers.Dropout(0.4),
            keras.layers.Dense(1),
        ]
    )
    model.compile(
        keras.optimizers.Adam(2e-3),
        keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[
            tfdist.metrics.ROCAUC(from_logits=True),
            tfdist.metrics.F1Score(from_logits=True),
        ],
    )
model.fit(
    x[train],
    labels[train],
    validation_data=(x[validation], labels[validation]),
    batch_size=64,
    epochs=args.epochs,
    verbose=2,
)

# What is chosen is chosen on the validation data: how much to cool the logits down, and from
# which probability on a review is called liked.
logits = model.predict(x[validation], batch_size=500, verbose=0)
temperature = tfdist.evaluation.fit_temperature(logits, labels[validation])
with strategy.scope():
    model = keras.Sequential(
        [
            *model.layers,
            tfdist.evaluation.TemperatureScaling(temperature),
            keras.layers.Activation("sigmoid"),
        ]
    )
validated = tfdist.evaluate(model, (x[validation], labels[validation]), batch_size=500)
threshold = tfdist.evaluation.best_threshold(validated, maximize="f1")

# And the test data are looked at once.
lengths = np.array([len(texts[i]) for i in test])
report = tfdist.evaluate(
    model,
    (x[test], labels[test]),
    threshold=threshold,
    class_names=["disliked", "liked"],
    slices={
        "characters": np.where(
            lengths < 20, "under 20", np.where(lengths < 60, "20 to 59", "60 on")
        )
    },
    batch_size=500,
)
if tfdist.is_chief():
    print(f"temperature {temperature:.3f}; {threshold}")
    print(report)
    report.to_html(args.report)
    print(f"The report is in {args.report}.")
