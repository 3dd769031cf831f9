"""The list of all benchmarks: which tables each makes, by which commands, from which data. `run_all.py` runs it."""

from catalogue.experiments import EXPERIMENTS
from catalogue.files import FILES
from catalogue.language_models import LANGUAGE_MODELS
from catalogue.weights import CHECKPOINTS

ENTRIES = (*FILES, *LANGUAGE_MODELS, *EXPERIMENTS, *CHECKPOINTS)
