"""Which tensors are coded, and with which quantisation steps."""
