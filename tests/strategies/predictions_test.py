import keras
import numpy as np
from upstream import two_cpus

X = np.random.default_rng(3).normal(size=(22, 3))


class Summing(keras.Model):
    def call(self, x):
        return keras.ops.sum(x, axis=1, keepdims=True)


def test_a_predict_step_of_the_users():
    class Twice(Summing):
        def predict_step(self, data):
            x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
            return {"once": self(x), "rows": x[:, :2]}

    with two_cpus().scope():
        model = Twice()
    outputs = model.predict(X, batch_size=7, verbose=0)  # 22 = 3 x 7 + 1
    np.testing.assert_allclose(outputs["rows"], X[:, :2], rtol=1e-6)
    np.testing.assert_allclose(outputs["once"], X.sum(axis=1, keepdims=True), rtol=1e-5, atol=1e-6)
