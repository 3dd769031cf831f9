"""Weights: a network's matrices as the trajectory of a hyperfunction, after "Hyper-Compression" (Fan et al., 2024).

checkpoint, kinds, onnx, safetensors, dtypes    tensors from files, one by one, whatever kind of file it is
groups, values              which tensors are coded, and as which matrix; by name and shape, and by what they hold
survey, steps, search, shrink    a first look; each tensor's step; the one that makes a size; the whole way to a file
budget, bpc, sensitivity    the step that makes a loss; the loss in bits per character; steps by kinds of tensors
record, packing, lossless, expand    the file (docs/weights-format.md), written and read
folder                      a folder of transformers around it
streamed                    modules of torch that decode their weights as they use them
report                      bits, errors, gaps
"""
