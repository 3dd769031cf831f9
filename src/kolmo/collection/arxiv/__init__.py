r"""Papers of mathematics from arXiv: the sources of the bulk archive, as Markdown.

The steps in their order; nothing here distributes work, see `kolmo.collection`.

    ids.py          identifiers, old and new, and the months they begin with
    source_list.py  the archive's manifest: which tar files there are
    storage.py      the archive itself: S3 (the requester pays), any fsspec URL, a folder
    xml_trees.py    XML from outside, without entities
    metadata.py     titles, categories, dates, licences by identifier
    harvest.py      the same from arXiv's OAI-PMH server
    tar_members.py  tar files read in bounded memory
    unpacking.py    what a paper's source consists of, decided by its bytes
    encodings.py    bytes of TeX to text
    main_file.py    which file of several is the paper
    tex/            tokens, flattening, endless macros, and the fallback without pandoc
    markdown.py     TeX to Markdown by pandoc, within limits
    steps.py        the steps over documents
    pipeline.py     the pipeline, its plan and its rebuilding
"""
