"""Documents to be evaluated, their readers and writers: a spec names files, a folder or a data set of the hub.

What it is not: it measures nothing, and knows no tokens. Texts to train on are another matter
(`training/texts/data.py`).

    specs.py       what a spec names: `open_corpus`
    documents.py   `Document`, `Corpus`; records to documents
    dates.py       the day in a document's meta
    files.py       bytes and characters of one file, plain or gzip
    json_lines.py  JSONL, and JSON lists
    parquet.py     Parquet, in batches
    folders.py     folders: texts, or shards of data
    layouts.py     configurations and splits of a folder, as the hub lays them out
    hub.py         data sets of the Hugging Face hub
    writing.py     JSONL and Parquet that the readers read
    overlap.py     n-grams that two corpora share
    extras.py      packages that only some readers need
"""

from kolmo.corpus.documents import Corpus, Document
from kolmo.corpus.specs import open_corpus

__all__ = ["Corpus", "Document", "open_corpus"]
