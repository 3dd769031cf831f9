"""Weights: a network's matrices as the trajectory of a hyperfunction, after "Hyper-Compression" (Fan et al., 2024).

hyperfunctions/             from a matrix to a payload and back: trellis (storage, the default), torus (the paper's own)
checkpoint, safetensors, dtypes, groups    tensors from files, one by one; which are coded, and as which matrix
survey, search, shrink      a first look; the step that makes a size; the whole way to a file
record, packing, expand     the file (docs/weights-format.md), written and read
folder                      a folder of transformers around it
streamed                    modules of torch that decode their weights as they use them
report                      bits, errors, gaps
"""
