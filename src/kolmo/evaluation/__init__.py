"""Evaluation: code lengths of documents under models, in a table, and every metric from that table.

After Huang et al., "Compression Represents Intelligence Linearly" (2024): a language model's bits per character on
fresh text, without benchmarks, rank it about as benchmarks do.

windows.py    which tokens are read at once, and which scored     modes.py      rules: strict, paper, other evaluators'
passages.py   what a model is handed, in batches                  scorers.py    models behind one protocol
run.py        documents -> windows -> nats -> rows                engines.py    one process, several, or Ray
rows.py, store.py   the table: nats per token and document        metrics.py    bits per character, intervals
results.py    what a run found                                    fit.py        scores of benchmarks against it
"""
