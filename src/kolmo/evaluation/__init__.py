"""Evaluation: code lengths of documents under models, in a table, and every metric from that table.

After Huang et al., "Compression Represents Intelligence Linearly" (2024): a language model's bits per character on
fresh text, without benchmarks, rank it about as benchmarks do.

windows.py, modes.py        which tokens are read together, and which scored; rules: strict, paper, other evaluators'
passages.py                 what a model is handed, in batches
scorers.py                  models behind one protocol: token_scorers.py, torch_scorer.py, byte_scorers.py,
                            servers/
opening.py                  from a spec to its scorer
engines.py                  where they run: here, in workers.py, on Ray (ray_engine.py)
work.py, run.py             documents -> windows -> nats -> rows -> result
evaluate.py                 from specs to results
rows.py, store.py           the table: nats per token and document
metrics.py, results.py      bits per character, intervals; what a run found
"""
