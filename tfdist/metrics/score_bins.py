"""Bins of scores that are fine where scores crowd, and that never change two scores' order.

The areas of ROC and PR curves need only the order of scores. A bin is found by whole-number
arithmetic on the float32 bits of a score, or by steps that are exact in float32, so of two
scores the greater one is never in a lower bin, on any device: that is what the metrics'
bound of the error rests on.

- Probabilities: a bin is a piece of an octave of the distance to the nearer of 0 and 1:
  8192 pieces of [0.25, 0.5) and of (0.5, 0.75], 4096 of the next octave, 2048 of each
  down to 2**-24, and 64 of each below that, where only scores near 0 can be. 0, 0.5 and 1
  have bins of their own, as has each float32 above 1 - 2**-12.
- Logits: 4096 bins a unit up to 8 either side of 0; then 512, 64 and 4.
"""

import numpy as np
import tensorflow as tf

_MANTISSA = 23  # bits of a float32
_HALF = 126  # the biased exponent of 0.5


def _bits_of_octaves():
    """How many bits of the mantissa tell a bin, by biased exponent from 0 to 126."""
    bits = np.full(_HALF + 1, 6)
    bits[_HALF - 24 : _HALF] = 11
    bits[_HALF - 2], bits[_HALF - 1] = 12, 13
    bits[_HALF] = 0  # 0.5 itself
    return bits


_BITS = _bits_of_octaves()
# The first place of an octave, counted from 0.5 outwards.
_PLACES = np.concatenate([np.cumsum(2 ** _BITS[::-1])[::-1][1:], [0]])
_TO_ZERO = int(np.sum(2**_BITS)) + 1  # bins from just below 0.5 down to 0, which is the last
_TO_ONE = int(_PLACES[_HALF - 25]) + 1  # 1 - p is a multiple of 2**-24; the last bin is that of 1
_PIECES = ((0.0, 8.0, 4096), (8.0, 16.0, 512), (16.0, 32.0, 64), (32.0, 128.0, 4))
_LOGITS = int(sum((end - begin) * rate for begin, end, rate in _PIECES)) + 1


class ScoreBins:
    """Puts scores into bins.

    Args:
        from_logits: bool; whether scores are logits, any float32, or from 0 to 1.
        most: int; how many bins there may be at most. Neighbours are put together.

    Attributes:
        size: how many bins there are.
    """

    def __init__(self, from_logits=False, most=None):
        self._from_logits = from_logits
        whole = 2 * _LOGITS if from_logits else _TO_ZERO + _TO_ONE
        self._shift = 0
        while most is not None and ((whole - 1) >> self._shift) + 1 > most:
            self._shift += 1
        self._whole = whole
        self.size = ((whole - 1) >> self._shift) + 1

    def __call__(self, scores):
        """Returns the int32 bins of float32 scores, of any shape; traced."""
        fine = _bins_of_logits(scores) if self._from_logits else _bins_of_probabilities(scores)
        return tf.bitwise.right_shift(fine, self._shift)

    def lowest_scores(self):
        """The lowest float32 that each bin can hold, float64 `(size,)`."""
        lowest = _lowest_logits() if self._from_logits else _lowest_probabilities()
        return lowest[:: 2**self._shift]

    def single(self):
        """Which bins hold one float32 only, so that all their scores are tied; bool `(size,)`."""
        if self._from_logits or self._shift:
            return np.zeros(self.size, bool)
        above = 1.0 - self.lowest_scores()[_TO_ZERO:]
        # From one multiple of 2**-24 to the next.
        next_ones = np.concatenate([above[1:], [-(2.0**-24)]])
        return np.concatenate([np.arange(_TO_ZERO) == 0, above - next_ones <= 2.0**-24])


def _bins_of_probabilities(scores):
    above = scores >= 0.5
    # 1 - p is exact from 0.5 on. Below, no arithmetic touches p: it could flush denormal
    # numbers, and tie with 0 what is not.
    size = tf.bitwise.bitwise_and(tf.bitcast(scores, tf.int32), 2**31 - 1)
    bits = tf.where(above, tf.bitcast(1.0 - scores, tf.int32), size)
    octave = tf.bitwise.right_shift(bits, _MANTISSA)
    mantissa = tf.bitwise.bitwise_and(bits, 2**_MANTISSA - 1)
    kept = tf.gather(tf.constant(_BITS, tf.int32), octave)
    piece = tf.bitwise.right_shift(mantissa, _MANTISSA - kept)
    place = tf.gather(tf.constant(_PLACES, tf.int32), octave)
    place += tf.bitwise.left_shift(tf.ones_like(kept), kept) - 1 - piece
    place = tf.where(bits == 0, _TO_ZERO - 1, place)
    return tf.where(above, _TO_ZERO + tf.minimum(place, _TO_ONE - 1), _TO_ZERO - 1 - place)


def _lowest_probabilities():
    distances = []
    for octave in range(_HALF, -1, -1):
        pieces = np.arange(2 ** _BITS[octave])[::-1].astype(np.int64)
        bits = (octave << _MANTISSA) + (pieces << (_MANTISSA - _BITS[octave]))
        distances.append(bits.astype(np.int32).view(np.float32).astype(np.float64))
    # The least distance of each bin from 0.5 outwards. The last of these bins, which holds
    # the smallest float32 but not 0, begins with the first denormal number.
    least = np.concatenate(distances)
    least[-1] = 2.0**-149
    # Towards 1 a bin's lowest score is the greatest distance of it: the multiple of 2**-24
    # next to the least distance of the bin before.
    greatest = (np.ceil(least[: _TO_ONE - 1] * 2.0**24) - 1.0) / 2.0**24
    return np.concatenate([[0.0], least[::-1], [0.5], 1.0 - greatest])


def _bins_of_logits(scores):
    size = tf.minimum(tf.abs(scores), _PIECES[-1][1])
    place = tf.zeros_like(size, tf.int32)
    first = 0
    for begin, end, rate in _PIECES:
        # Products with powers of two are exact.
        mine = first + tf.cast(tf.floor((size - begin) * rate), tf.int32)
        place = tf.where(size >= begin, mine, place)
        first += int((end - begin) * rate)
    # By the bits: devices differ in whether a comparison takes denormal numbers for 0.
    bits = tf.bitcast(scores, tf.int32)
    below = (bits < 0) & (bits >= -(2**31) + 2**_MANTISSA)
    return tf.where(below, _LOGITS - 1 - place, _LOGITS + place)


def _lowest_logits():
    up = [np.arange(int((end - begin) * rate)) / rate + begin for begin, end, rate in _PIECES]
    up = np.concatenate([*up, [_PIECES[-1][1]]])
    # Below 0 a bin ends just above the next one's highest score.
    ends = np.nextafter(np.float32(up[1:]), np.float32(0.0)).astype(np.float64)
    return np.concatenate([[-np.inf], -ends[::-1], up])
