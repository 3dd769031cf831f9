"""Benchmark scores against bits per character: `kolmo fit`.

line.py     the line, its error, prediction intervals, families left out
table.py    tables of models, among them the published one
areas.py    which columns hold BPC and scores; one line for each area
figure.py   the figure; labels.py places the names of models in it
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
