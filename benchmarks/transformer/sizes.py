"""The sizes of the transformer that both sides train: 2.87 M parameters."""

VOCABULARY, TOKENS, WIDTH, HEADS, LAYERS = 4000, 64, 192, 4, 3
BATCH = 8  # sequences a worker
