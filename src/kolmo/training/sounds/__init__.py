"""Training networks of samples on folders of sounds."""
