"""Benchmark scores against bits per character: `kolmo fit`.

line.py      the line, its error, intervals, families left out    table.py    tables of models, the published one too
areas.py     which columns hold what; a line for each area        figure.py   the picture, labels.py its names
"""

from kolmo.fit.line import Fit, HeldOut, Prediction, fit, leave_one_family_out
from kolmo.fit.table import Table, published, read_table
from kolmo.student import student_t

__all__ = [
    "Fit",
    "HeldOut",
    "Prediction",
    "Table",
    "fit",
    "leave_one_family_out",
    "published",
    "read_table",
    "student_t",
]
