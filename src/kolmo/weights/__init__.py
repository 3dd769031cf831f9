"""Weights: a network's matrices as the trajectory of a hyperfunction, after "Hyper-Compression" (Fan et al., 2024).

hyperfunctions/             from a matrix to a payload and back: trellis (storage, the default), torus (the paper's own)
"""
