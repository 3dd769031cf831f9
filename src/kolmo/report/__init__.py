"""Where the bits go: of one content under a predictor, and of corpora under models; summed up, and as pages.

explain.py       scores a content; totals, classes, lines, words: `Explanation`
sums.py          costs summed up by class, place in a word, word
text.py          bytes -> characters, words, lines
page/            an `Explanation` as one HTML page (with page.css and page.js)
frame.py         what every page is set in

board/           the leaderboard: results of `kolmo eval`, as one page and as tables
"""

from kolmo.report.board.leaderboard import Leaderboard, leaderboard
from kolmo.report.explain import Explanation, Totals, explain

__all__ = ["Explanation", "Leaderboard", "Totals", "explain", "leaderboard"]
