"""The tables of a leaderboard in HTML: a section's models, what they differ from the best by, its corpora's subsets.

They need no script; with it they sort, and the cells of corpora show another metric (leaderboard.js).
What it is not: the page around them (`board.page`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from kolmo.foreign import html
from kolmo.report.board.results import MEASURES, WITH_MEMORY, CorpusVersion, number
from kolmo.report.board.sections import PUBLISHED, Cell, Entry, Section
from kolmo.report.board.words import compact, plural

RULES = {  # what a mode does, in a sentence
    "strict": "Each document on its own, every token scored once, the first after a start token; all characters count.",
    "paper": "Documents joined to one stream and full windows alone, as in Huang et al., 2024.",
    "lm-eval": "Disjoint windows, the last filled up from behind, as the lm-evaluation-harness has them.",
    "lm-eval-no-bos": "As lm-eval, with add_bos_token=False: without the special tokens that tokenizers add.",
    "uncheatable": "Disjoint chunks whose first tokens are not scored, as uncheatable_eval had them until 2025.",
    "uncheatable-bos": "Disjoint chunks behind a start token, all scored, as uncheatable_eval has them now.",
    "llama.cpp": "Chunks whose second halves alone are scored, as llama.cpp's perplexity has them.",
    "perplexity-2048": "Documents joined by blank lines, full chunks of 2,048 tokens, as in papers on small weights.",
}


def section_tables(section: Section, place: int) -> Iterator[str]:
    """All tables of a section, with their heads and notes."""
    yield f'<section id="section-{place}" class="board">\n<h2>{html(section.title)}</h2>\n'
    rule = RULES.get(section.mode)
    count = len(section.models)
    published = len(section.entries) - len(section.measured)
    counts = [(count, "model"), (len(section.measured) - count, "reference"), (published, "published model")]
    head = ", ".join(plural(number, what) for number, what in counts if number)
    yield f'<p class="note">{escape(rule) + " " if rule else ""}{head}.</p>\n'
    yield _board(section, place)
    notes = "".join(f"<li>{html(note)}</li>" for note in section.notes)
    if notes:
        yield f'<ul class="notes">{notes}</ul>\n'
    yield from _gaps(section)
    yield from _subsets(section)
    yield "</section>\n"


# The models


def _board(section: Section, place: int) -> str:
    several = len(section.columns) > 1
    name, digits = MEASURES[section.measure]
    heads = ['<th scope="col" class="name">model</th>']
    heads += [_corpus_head(column) for column in section.columns]
    if several:
        heads.append('<th scope="col" class="num m">average<small>over corpora</small></th>')
    rest = ("bits_per_byte", "compression_rate", "min_k") if section.measure == "bits_per_character" else ("min_k",)
    remembered = any(cell.values[WITH_MEMORY] is not None for entry in section.entries for cell in entry.cells.values())
    if remembered:
        rest = (WITH_MEMORY, *rest)
    short = {
        WITH_MEMORY: "with memory",
        "bits_per_byte": "bits/byte",
        "compression_rate": "rate",
        "min_k": "Min-20&nbsp;%",
    }
    tips = {
        WITH_MEMORY: "bits per character with a memory of each document beside the model",
        "bits_per_byte": "bits for each byte of UTF-8",
        "compression_rate": "packed bytes for each raw byte: bits per byte / 8",
        "min_k": "mean nats of the 20 % least probable tokens; low where a text was seen in training",
    }
    heads += [f'<th scope="col" class="num" title="{tips[key]}">{short[key]}</th>' for key in rest]
    facts = [
        ("parameters", [entry.parameters for entry in section.entries]),
        ("vocabulary", [entry.vocabulary for entry in section.entries]),
    ]
    known = [(label, values) for label, values in facts if any(values)]
    heads += [f'<th scope="col" class="num">{label}</th>' for label, _ in known]
    dtypes = any(entry.dtype for entry in section.entries)
    if dtypes:
        heads.append('<th scope="col">dtype</th>')
    scales = {column.name: _scale(section, column) for column in section.columns}
    averages = [entry.averages[section.measure] for entry in section.entries]
    known_averages = (entry.averages[section.measure] for entry in section.measured)
    least = min((value for value in known_averages if value is not None), default=None)
    rows = []
    for k, entry in enumerate(section.entries):
        cells = [_head(entry)]
        for column in section.columns:
            best = section.best.get(column.name) == entry.name
            cells.append(_cell(entry.cells.get(column.name), section.measure, scales[column.name], best))
        if several:
            value = averages[k]
            strong = " best" if value is not None and value == least else ""
            cells.append(f'<td class="m{strong}"{_measures(entry.averages)}>{_value(value, digits)}</td>')
        cells += [_plain(entry.averages[key], MEASURES[key][1]) for key in rest]
        cells += [_size(values[k]) for _, values in known]
        if dtypes:
            cells.append(f'<td class="text">{html(entry.dtype)}</td>')
        rows.append(f"<tr{_class(entry)}>{''.join(cells)}</tr>\n")
    options = "".join(
        f'<option value="{n}" data-digits="{places}"{" selected" if key == section.measure else ""}>{label}</option>'
        for n, (key, (label, places)) in enumerate(MEASURES.items())
        if key != WITH_MEMORY or remembered
    )
    select = f'<select data-board="{place}">{options}</select>'
    choice = f'<p class="choice live"><label>columns of corpora: {select}</label></p>'
    return (
        f'{choice}\n<div class="scroll" tabindex="0" role="region" aria-label="{html(section.title)}">'
        f'<table class="sortable" data-measure="{list(MEASURES).index(section.measure)}">'
        f"<caption>{name}{'; lower is better' if section.measure != 'min_k' else ''}</caption>"
        f"<thead><tr>{''.join(heads)}</tr></thead>\n<tbody>\n{''.join(rows)}</tbody></table></div>\n"
    )


def _corpus_head(column: CorpusVersion) -> str:
    dates = f", {column.first} to {column.last}" if column.first else ""
    tip = f"{plural(column.documents, 'document')}, {plural(column.characters, 'character')}{dates}, {column.digest}"
    if not column.documents:  # published numbers alone
        return f'<th scope="col" class="num m">{html(column.name)}</th>'
    small = f"{compact(column.documents)} doc{'s' * (column.documents != 1)}, {compact(column.characters)} chars"
    return f'<th scope="col" class="num m" title="{html(tip)}">{html(column.name)}<small>{small}</small></th>'


def _class(entry: Entry) -> str:
    return " class=reference" if entry.reference else f" class={PUBLISHED}" if entry.kind == PUBLISHED else ""


def _head(entry: Entry) -> str:
    facts = entry.facts
    about = " · ".join(
        part
        for part in (entry.spec, facts.family, facts.licence, f"cutoff {facts.stated}" if facts.stated else "")
        if part
    )
    folder, slash, bare = entry.name.rpartition("/")
    name = f'<small class="folder">{html(folder)}/</small>{html(bare)}' if slash and bare else html(entry.name)
    if facts.url:
        name = f'<a href="{escape(facts.url)}" rel="noreferrer">{name}</a>'
    word = "reference" if entry.reference else PUBLISHED if entry.kind == PUBLISHED else ""
    tag = f' <small class="tag">{word}</small>' if word else ""
    return f'<th scope="row" title="{html(about)}"><span>{name}</span>{tag}</th>'


def _cell(cell: Cell | None, measure: str, scale: tuple[float, float] | None, best: bool) -> str:
    if cell is None:
        return '<td class="m"></td>'
    digits = MEASURES[measure][1]
    value = cell.values[measure]
    low, high = (cell.values["low"], cell.values["high"]) if measure == "bits_per_character" else (None, None)
    tips, marks, small, bar = [], "", "", ""
    if low is not None and high is not None and math.isfinite(high - low):
        small = f" <small>&plusmn;{(high - low) / 2:.{digits}f}</small>"
        tips.append(f"95 %: {low:.{digits}f} to {high:.{digits}f}, over {plural(cell.column.documents, 'document')}")
        bar = whisker(value, low, high, scale) if cell.current else ""
    if not cell.current:
        other = cell.column
        tips.append(
            f"another version of the corpus: {plural(other.documents, 'document')}, digest {other.digest}; not compared"
        )
        marks += "<sup>&dagger;</sup>"
    if cell.seen:
        marks += '<sup class="seen">&#x25B2;</sup>'
        part = "all" if cell.seen == "all" else "part"
        tips.append(f"may be contaminated: {part} of the corpus is from before the model's training cutoff")
    names = " ".join(["m", *(["best"] if best else []), *([] if cell.current else ["other"])])
    tip = f' title="{html("; ".join(tips))}"' if tips else ""
    return f'<td class="{names}"{tip}{_measures(cell.values)}>{marks}<b>{_value(value, digits)}</b>{small}{bar}</td>'


def _measures(values: Mapping[str, float | None]) -> str:
    """All metrics of a cell, for the script."""
    return f' data-m="{" ".join(_exact(values.get(key)) for key in MEASURES)}"'


def _exact(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.6g}"


def _plain(value: float | None, digits: int) -> str:
    return f'<td data-v="{_exact(value)}">{_value(value, digits)}</td>'


def _value(value: float | None, digits: int) -> str:
    if value is None:
        return ""
    return "&infin;" if math.isinf(value) else f"{value:.{digits}f}" if value < 1e5 else f"{value:.2e}"


def _size(value: int | None) -> str:
    return "<td></td>" if value is None else f'<td data-v="{value}" title="{value:,}">{compact(value)}</td>'


def _scale(section: Section, column: CorpusVersion) -> tuple[float, float] | None:
    """What the whiskers of a column span: the models' intervals, and references only where there are no models."""
    cells = [
        entry.cells[column.name]
        for entry in section.models or section.entries
        if column.name in entry.cells and entry.cells[column.name].current
    ]
    lows = [cell.values["low"] for cell in cells if cell.values["low"] is not None]
    highs = [cell.values["high"] for cell in cells if cell.values["high"] is not None]
    if not lows or not highs:
        return None
    low, high = min(one for one in lows if one is not None), max(one for one in highs if one is not None)
    return (low, high) if math.isfinite(high - low) and high > low else None


def whisker(value: float | None, low: float, high: float, scale: tuple[float, float] | None) -> str:
    """An interval and its middle, as a small bar on a scale; empty where it lies beyond."""
    if scale is None or value is None or low > scale[1] or high < scale[0]:
        return ""
    left, middle, right = (
        100 * (min(max(one, scale[0]), scale[1]) - scale[0]) / (scale[1] - scale[0]) for one in (low, value, high)
    )
    return (
        f'<span class="bar" aria-hidden="true"><s style="left:{left:.1f}%;width:{right - left:.1f}%"></s>'
        f'<u style="left:{middle:.1f}%"></u></span>'
    )


# What models differ by


def _gaps(section: Section) -> Iterator[str]:
    columns = [column for column in section.columns if column.name in section.best]
    if not columns or not section.gaps:
        return
    yield "<h3>Differences to the best</h3>\n"
    yield (
        '<p class="note">Bits per character more than the best model of each corpus, paired by document: both models '
        "get the same draws, so what makes a document hard for both cancels. In grey where the 95 % interval holds 0."
        "</p>\n"
    )
    heads = "".join(f'<th scope="col" class="num">{html(column.name)}</th>' for column in columns)
    scales = {}
    for column in columns:
        names = {entry.name for entry in section.models} or {entry.name for entry in section.entries}
        here = [gap for (corpus, name), gap in section.gaps.items() if corpus == column.name and name in names]
        ends = [0.0, *(end for gap in here for end in (gap.low, gap.high) if end is not None)]
        scales[column.name] = (min(ends), max(ends)) if max(ends) > min(ends) else None
    rows = []
    for entry in section.measured:
        cells = [_head(entry)]
        for column in columns:
            gap = section.gaps.get((column.name, entry.name))
            if section.best[column.name] == entry.name:
                cells.append('<td class="best" data-v="0">best</td>')
            elif gap is None:
                cells.append("<td></td>")
            else:
                tip = f"over {plural(gap.documents, 'document')}; better on {100 * gap.wins:.1f} % of them"
                spread = ""
                if gap.low is not None and gap.high is not None:
                    bar = whisker(gap.value, gap.low, gap.high, scales[column.name])
                    spread = f" <small>{gap.low:.4f} to {gap.high:.4f}</small>{bar}"
                cells.append(
                    f'<td class="{"clear" if gap.clear else "unclear"}" data-v="{gap.value:.6g}" title="{tip}">'
                    f"<b>{gap.value:+.4f}</b>{spread}</td>"
                )
        rows.append(f"<tr{' class=reference' if entry.reference else ''}>{''.join(cells)}</tr>\n")
    yield (
        f'<div class="scroll" tabindex="0" role="region" aria-label="differences"><table class="sortable gaps">'
        f'<thead><tr><th scope="col" class="name">model</th>{heads}</tr></thead>\n<tbody>\n{"".join(rows)}</tbody>'
        "</table></div>\n"
    )


# Subsets


def subsets_of(cell: Cell) -> dict[str, Mapping[str, Any]]:
    """Metrics of each subset of a corpus, where it has several."""
    found = cell.result.record.get("subsets") if cell.result else None
    if not isinstance(found, Mapping):
        return {}
    return {str(name): facts for name, facts in found.items() if isinstance(facts, Mapping)}


def _subsets(section: Section) -> Iterator[str]:
    for column in section.columns:
        cells = [
            (entry, subsets_of(entry.cells[column.name]))
            for entry in section.entries
            if column.name in entry.cells and entry.cells[column.name].current
        ]
        names = list(dict.fromkeys(name for _, found in cells for name in found))
        if len(names) < 2:
            continue
        digits = MEASURES[section.measure][1]
        heads = "".join(f'<th scope="col" class="num">{html(name) or "(none)"}</th>' for name in names)
        rows = []
        for entry, found in cells:
            values = [_finite(found.get(name, {}).get(section.measure)) for name in names]
            filled = "".join(_plain(value, digits) for value in values)
            rows.append(f"<tr{' class=reference' if entry.reference else ''}>{_head(entry)}{filled}</tr>\n")
        yield (
            f"<details><summary>{html(column.name)} by subset</summary>\n"
            f'<div class="scroll" tabindex="0" role="region" aria-label="subsets"><table class="sortable">'
            f'<thead><tr><th scope="col" class="name">model</th>{heads}</tr></thead>\n<tbody>\n{"".join(rows)}</tbody>'
            "</table></div></details>\n"
        )


def _finite(value: Any) -> float | None:
    try:
        return number(value)
    except TypeError:
        return None
