"""The recurrence of a training step, forward and backward, in C."""
