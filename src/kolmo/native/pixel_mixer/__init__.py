"""The mixer of pictures: docs/image.md."""
