"""The shrunk file: its record, its tensors, coded with loss or exactly."""
