"""GGUF files without a loss: their layout, the fields of their blocks, and the file that `kolmo shrink` makes."""
