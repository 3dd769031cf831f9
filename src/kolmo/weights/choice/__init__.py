"""How a goal of `kolmo.shrink` is reached: a survey of the tensors, and searches for their steps."""
