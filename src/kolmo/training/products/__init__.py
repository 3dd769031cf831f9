"""What a training leaves behind: the exact network, its mixer's priors, its card, its curve."""
