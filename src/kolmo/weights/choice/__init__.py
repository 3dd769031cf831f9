"""How a goal of `kolmo.shrink` is reached.

goal                 the base of goals, and the selection of weights
survey, values       one read of all tensors: which ones hold weights, and of what scale
coding               the coding of a checkpoint, repeated for each step that is tried
sizes, search        the step that makes a size
losses, budget, bpc  the step that keeps a loss within a limit; the loss in bits per character
steps, sensitivity   the steps of single tensors, by their scale and by what their errors cost
"""
