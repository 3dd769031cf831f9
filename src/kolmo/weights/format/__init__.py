"""The shrunk file (docs/weights-format.md): its record, and the codes of its tensors."""
