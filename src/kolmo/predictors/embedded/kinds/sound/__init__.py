"""Sound in a block: where it is, and the shapes of its mixer (docs/audio.md)."""
