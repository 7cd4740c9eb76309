"""Orthonormal columns for many small matrices at once.

The matrices stand on each other in one tall matrix; a segment is the rows of one of
them. The number of operations depends on the number of columns alone.
"""

import tensorflow as tf

# What is left of a column of length 1 is rounding errors below this length.
_NOTHING = {tf.float32: 1e-6, tf.float64: 1e-14}


class Segments:
    """Which rows belong to which matrix.

    Args:
        rows: list of ints, the number of rows of each matrix.
    """

    def __init__(self, rows):
        self._ids = tf.repeat(tf.range(len(rows)), rows)
        self._size = sum(rows)

    def orthonormal(self, columns):
        """An orthonormal basis of the columns of each matrix.

        Gram-Schmidt, each column more than once, which makes them orthogonal to rounding.
        Where columns are zero or depend on those before, the basis is completed by
        arbitrary ones: nothing is divided by zero, and a warm start that was zero recovers.

        Args:
            columns: float tensor of shape (rows of all matrices, rank); finite.

        Returns:
            A tensor like `columns`.
        """
        columns, others = self.unit(columns), self.unit(self._dense_columns(columns))
        basis = columns[:, :0]
        for j in range(columns.shape[1]):
            column = self._without(basis, columns[:, j : j + 1])
            length = self._spread(tf.sqrt(self._sum(tf.square(column))))
            missing = tf.cast(length < _NOTHING[columns.dtype], columns.dtype)
            column += missing * others[:, j : j + 1]
            for _ in range(2):
                column = self._without(basis, column)
            basis = tf.concat([basis, self.unit(column)], 1)
        return basis

    def _without(self, basis, column):
        """What of a column is orthogonal to a basis, that may have no columns yet."""
        if not basis.shape[1]:
            return column
        products = self._spread(self._sum(basis * column))
        return column - tf.reduce_sum(basis * products, 1, keepdims=True)

    def unit(self, columns):
        """Scales the columns of each matrix to length 1; a zero column stays zero."""
        # First by the largest element, so that no square of it vanishes or overflows.
        largest = self._spread(tf.math.segment_max(tf.abs(columns), self._ids))
        columns = tf.math.divide_no_nan(columns, largest)
        norm = self._spread(tf.sqrt(self._sum(tf.square(columns))))
        return tf.math.divide_no_nan(columns, norm)

    def _sum(self, columns):
        return tf.math.segment_sum(columns, self._ids)

    def _spread(self, per_matrix):
        return tf.gather(per_matrix, self._ids)

    def _dense_columns(self, like):
        """Independent columns without zeros, the same on all replicas and in all steps.

        Unit vectors would do no good for embeddings, most of whose rows are zero.
        """
        rows = tf.range(self._size, dtype=like.dtype)[:, None]
        frequencies = 1 + tf.sqrt(tf.range(2, 2 + like.shape[1], dtype=like.dtype))
        return tf.cos(rows * frequencies)
