"""Whether the bytes that `deadkv explain` states are those that XLA counts."""
