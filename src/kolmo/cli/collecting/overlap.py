"""`kolmo collect overlap`: the n-grams that the documents of one corpus share with another."""

from __future__ import annotations

import click

from kolmo.cli import options
from kolmo.cli.console import Console, print_lines

SHOWN = 20  # documents that are listed without -v


@click.command("overlap")
@click.option(
    "-n", "length", type=click.IntRange(min=1), default=13, show_default=True, metavar="N", help="Words of an n-gram."
)
@click.option("--subset-a", metavar="NAME", help="Take this subset of A alone.")
@click.option("--subset-b", metavar="NAME", help="Take this subset of B alone.")
@options.quiet
@options.verbose
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each document, and a last one for all.")
@click.argument("a", metavar="A", type=options.PATH)
@click.argument("b", metavar="B", type=options.PATH)
def command(
    *,
    a: str,
    b: str,
    length: int,
    subset_a: str | None,
    subset_b: str | None,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> int:
    """Compare two corpora by n-grams of words.

    B is a benchmark or a training set, for example. For each document of A: how many of its n-grams stand in B, and in
    which document of B most of them do.
    """
    from kolmo.corpus import open_corpus
    from kolmo.corpus.overlap import overlap

    console = Console(quiet, verbose, as_json)
    with console.guarded(a):
        found = overlap(open_corpus(a, subset=subset_a), open_corpus(b, subset=subset_b), length)
        ranked = sorted(found, key=lambda document: (-document.fraction, document.name))
        touched = [document for document in ranked if document.shared]
        total = sum(document.ngrams for document in found)
        shared = sum(document.shared for document in found)
        if as_json:
            for document in found:
                console.record({**vars(document), "fraction": document.fraction})
            console.record(
                {"documents": len(found), "touched": len(touched), "ngrams": total, "shared": shared, "length": length}
            )
        else:
            listed = touched if verbose else touched[:SHOWN]
            print_lines(
                [
                    *(f"{100 * one.fraction:5.1f} %  {one.shared:>7}  {one.name}  <-  {one.nearest}" for one in listed),
                    *([f"and {len(touched) - len(listed)} more (-v)"] if len(listed) < len(touched) else []),
                    f"{len(touched)} of {len(found)} documents share {length}-grams with {b}: "
                    f"{shared} of {total} ({100 * shared / max(total, 1):.2f} %)",
                ]
            )
    return console.status
