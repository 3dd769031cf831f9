"""Where the bits go: what each byte of a content costs under a predictor, summed up, and as a page.

explain.py       scores a content; totals, classes, lines, words: `Explanation`
text.py          bytes -> characters, words, lines
explain_page.py  an `Explanation` as one HTML page (with explain_page.css and explain_page.js)
"""

from kolmo.report.explain import Explanation, Totals, explain

__all__ = ["Explanation", "Totals", "explain"]
