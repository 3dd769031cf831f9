"""The networks that can be trained, as modules of torch."""
