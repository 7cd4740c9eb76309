"""`keras.layers.Embedding` on parameter servers: rows travel, not tables.

Needs: `Embedding.build`, `.call`, `.embeddings`, `.save_own_variables` and
`.load_own_variables` (public methods, replaced for every layer), and its attribute
`_embeddings`.
Why: Keras looks rows up in a tensor, so a worker would fetch the whole table in each
step. And a table may be larger than a server's memory: a partitioner splits it into
variables of their own, each with its optimizer's slots beside it, which a Keras
variable, being one, cannot be. Files know nothing of the split: a saved layer holds one
table, and is loaded whole or split.

Limits: `get_weights` and the optimizer's variables are those of the parts, so that a saved
optimizer does not fit a model with whole tables (Keras warns, and it begins anew);
quantized layers and those with LoRA stay whole.
"""

import numpy as np
import tensorflow as tf
from keras import ops
from keras.src.layers.core.embedding import Embedding

from tfdist.compat.replacing import replace
from tfdist.compat.strategy import is_asynchronous, is_tfdist


def install():
    split = "the layer's table is split over parameter servers"
    replace(
        Embedding,
        "build",
        _build_parts,
        "the strategy in force has a `variable_partitioner` that splits the table",
        "makes a variable for each part",
    )
    replace(
        Embedding,
        "call",
        _look_up,
        "a parameter server holds the layer's table",
        "fetches the rows that are looked up, not the table",
    )
    replace(Embedding, "save_own_variables", _save_whole, split, "saves one table")
    replace(Embedding, "load_own_variables", _load_whole, split, "gives each part its rows")
    replace(Embedding, "embeddings", _whole, split, "puts the parts together")


def parts_of(layer):
    """The variables of a table that is split over parameter servers; None if it is not."""
    return vars(layer).get("_tfdist_parts")


def _build_parts(original):
    def build(self, input_shape=None):
        shape = (self.input_dim, self.output_dim)
        count = _parts_count(self, shape)
        if self.built or count == 1:
            return original(self, input_shape)
        rows, more = divmod(self.input_dim, count)
        ends = [rows * (i + 1) + min(i + 1, more) for i in range(count)]
        parts = [
            self.add_weight(
                shape=(end - begin, self.output_dim),
                initializer=_rows_of(self.embeddings_initializer, shape, begin, end),
                name=f"embeddings_{i}",
                regularizer=self.embeddings_regularizer,
                constraint=self.embeddings_constraint,
            )
            for i, (begin, end) in enumerate(zip([0, *ends], ends))
        ]
        object.__setattr__(self, "_tfdist_parts", parts)
        self._embeddings = None
        self.built = True

    return build


def _parts_count(layer, shape):
    strategy = tf.distribute.get_strategy()
    partitioner = strategy.variable_partitioner if is_tfdist(strategy) else None
    if partitioner is None or layer.quantization_mode or layer.lora_rank:
        return 1
    parts = partitioner(shape=tf.TensorShape(shape), dtype=tf.as_dtype(layer.variable_dtype))
    return max(1, min(int(parts[0]), shape[0]))


def _rows_of(initializer, shape, begin, end):
    """An initializer of some rows, with the values that they have in the whole table."""

    def rows(_, dtype=None):
        return initializer(shape, dtype=dtype)[begin:end]

    return rows


def _look_up(original):
    def call(self, inputs):
        parts = parts_of(self)
        # Which strategy is in force says nothing: steps are traced outside of its scope.
        if not parts and not (_is_on_server(self._embeddings) and not self.lora_enabled):
            return original(self, inputs)
        if self.quantization_mode or isinstance(inputs, (tf.RaggedTensor, tf.SparseTensor)):
            return original(self, inputs)
        variables = [part.value for part in parts or [self._embeddings]]
        ids = tf.cast(tf.convert_to_tensor(inputs), tf.int64)
        ids = tf.where(ids < 0, ids + self.input_dim, ids)
        if len(variables) == 1:
            outputs = tf.gather(variables[0], ids)
        else:
            outputs = tf.nn.embedding_lookup(variables, ids)  # parts in the order of rows
        return ops.cast(outputs, dtype=self.compute_dtype)

    return call


def _is_on_server(variable):
    return is_asynchronous(getattr(variable.value, "_distribute_strategy", None))


def _whole(original):
    def embeddings(self):
        parts = parts_of(self)
        return ops.concatenate(parts, axis=0) if parts else original(self)

    return embeddings


def _save_whole(original):
    def save_own_variables(self, store):
        parts = parts_of(self)
        if not parts:
            return original(self, store)
        store["0"] = np.concatenate([part.numpy() for part in parts])

    return save_own_variables


def _load_whole(original):
    def load_own_variables(self, store):
        parts = parts_of(self)
        if not parts:
            return original(self, store)
        table = np.asarray(store["0"])
        if table.shape != (self.input_dim, self.output_dim):
            raise ValueError(
                f"The layer {self.name!r} expected a table of {(self.input_dim, self.output_dim)}; "
                f"the file holds one of {table.shape}."
            )
        begin = 0
        for part in parts:
            part.assign(table[begin : begin + part.shape[0]])
            begin += part.shape[0]

    return load_own_variables
