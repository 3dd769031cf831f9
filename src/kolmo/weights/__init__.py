"""Weights: a network's matrices as the trajectory of a hyperfunction, after "Hyper-Compression" (Fan et al., 2024).

shrink, goals        `kolmo.shrink`, and what it is to reach: a size, a step, a loss, or no loss at all
comparison, report   errors of the decoded weights; sizes, bits and errors as a table
sources/             tensors from files, modules and dictionaries, one at a time; folders of transformers
choice/              which tensors are weights, and the steps that reach a goal
format/              the shrunk file (docs/weights-format.md): record, table, codes, lossless, writer, reader
running/             `kolmo.load` and `kolmo.expand`; modules of torch that decode their weights when they use them
"""
