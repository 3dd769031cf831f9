"""Evaluation: code lengths of documents under models, in a table, and every metric from that table.

After Huang et al., "Compression Represents Intelligence Linearly" (2024): a language model's bits per character on
fresh text, without benchmarks, rank it about as benchmarks do.

evaluate.py   opens models and corpora, and evaluates each model on each corpus
opening.py    opens the scorer of a model specification
run.py        one run: one model, one corpus, one mode; run_state.py is its state
windows/      evaluation modes: which tokens the model reads together, and which of them it scores; batches
scorers/      models behind one protocol: language models, byte predictors, compressors, servers
engines/      where batches are scored: in this process, in worker processes, on a Ray cluster
results/      the table of nats per token and document; metrics and intervals computed from it
"""
