from precision import float64  # noqa: F401  (for all tests here)
