"""Memory beside a language model: what the tokens of a block so far say about the next one (docs/memory.md)."""
