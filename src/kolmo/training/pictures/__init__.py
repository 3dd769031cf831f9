"""Pictures to train on: reading them, and drawing bytes from them."""
