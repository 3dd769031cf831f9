"""The leaderboard: what `kolmo eval` found, as one page and as tables: `kolmo report`.

leaderboard.py   from results to a `Leaderboard`
contents.py      what one consists of
results.py       results, checked
sections.py      what may stand in one table, and differs by what
models.py        training cutoffs (cutoffs.csv), families, scores of models, from tables
fit.py           scores against bits per character
documents.py     the documents that a page shows, packed
page.py          a `Leaderboard` as one HTML page (with assets/leaderboard.css and .js), made of
table.py         tables, and
figure.py        pictures, in the words of words.py
export.py        the same as Markdown, CSV, JSON
"""
