"""Web pages of Common Crawl: paragraph deduplication, language, perplexity buckets.

pipeline.py    the stages, the recipe
listing.py     which segments: of a dump, or files of one's own
archives.py    records of WARC and WET files, damaged ones included
pages.py       records to documents
extraction.py  HTML to text, in a process that can be killed
paragraphs.py  two-pass deduplication of lines
languages.py   language of the whole text
perplexity.py  scores, cut-offs, buckets
kenlm.py       models that the user brings
"""
