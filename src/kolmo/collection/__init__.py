"""Fresh corpora: documents from Common Crawl, GitHub and arXiv, with the recipe to make them again.

The work is distributed by datatrove, which is imported when a pipeline runs and not before. See docs/collection.md.
What it is not: an evaluation; `kolmo.evaluation` reads the folders that are made here, as any other corpus.

    document.py    documents to and from datatrove's, and to and from the lines of shards
    counts.py      what each step takes, keeps and drops
    stages.py      what a pipeline consists of: stages, steps, shards
    tasks.py       a shard of a stage as a pipeline of datatrove
    engine.py      runs stages with datatrove's executors, resumably
    fetching.py    polite requests and downloads
    landing.py     downloads on their way to the disk
    workers.py     other programs under limits of time and memory
    pipelines.py   what every pipeline offers; each has a folder of its own: common_crawl, github, arxiv
    manifest.py    the record of a collection, and its recipe
    collecting.py  a pipeline from its first stage to a complete folder; card.py, its dataset card
    rebuilding.py  the same folder from a manifest
    extras.py      packages that the extra `collect` brings
"""
