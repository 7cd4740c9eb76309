"""The networks that `benchmarks/shrink.py` makes smaller."""

import keras

APPLICATIONS = [name for name in dir(keras.applications) if name[0].isupper()]
SIZE = 96  # of images; the smallest that all of them take is 75

TEXT = {"vocabulary_size": 50, "num_layers": 2, "hidden_dim": 16, "intermediate_dim": 64}
SHORT = {"max_sequence_length": 16}
# Backbones of KerasHub in tiny configurations, four times as wide inside as outside, as usual.
BACKBONES = {
    "Bert": TEXT | SHORT | {"num_heads": 4},
    "Roberta": TEXT | SHORT | {"num_heads": 4},
    "DistilBert": TEXT | SHORT | {"num_heads": 4},
    "Electra": {
        "vocab_size": 50,
        "num_layers": 2,
        "num_heads": 4,
        "hidden_dim": 16,
        "embedding_dim": 16,
        "intermediate_dim": 64,
        **SHORT,
    },
    "GPT2": TEXT | SHORT | {"num_heads": 4},
    "OPT": TEXT | SHORT | {"num_heads": 4},
    "Mistral": TEXT | {"num_query_heads": 4, "num_key_value_heads": 2, "sliding_window": 8},
    "Llama": TEXT | {"num_query_heads": 4, "num_key_value_heads": 2},
    "T5": TEXT | {"num_heads": 4},
    "ViT": {
        "image_shape": (32, 32, 3),
        "patch_size": 8,
        "num_layers": 2,
        "num_heads": 4,
        "hidden_dim": 16,
        "mlp_dim": 64,
    },
}


def build(name):
    """The network `name`, of `APPLICATIONS` or `BACKBONES`, with weights of chance."""
    if name in APPLICATIONS:
        return getattr(keras.applications, name)(weights=None, input_shape=(SIZE, SIZE, 3))
    import keras_hub

    return getattr(keras_hub.models, f"{name}Backbone")(**BACKBONES[name])
