"""Text for training: where it comes from, and how it reaches the network."""
