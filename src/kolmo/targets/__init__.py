"""The only writer of whole files and folders: under a temporary name beside the target, then renamed into place.

When something fails, or the process is killed, the target is as it was before, and nothing half-written has its name.
After a power cut the same holds for all that this policy brings to the disk (fsync) before and after the rename:

- what replaces an older file or folder of that name, which would otherwise be lost;
- what the caller declares `durable`, since something else is removed for it, or since it took long to make.

A new file that is neither is not synced: after a power cut it may be missing or empty, and the command can be repeated.

Several processes may write to one folder. Of two that make the same new file, one gets the name and the other an error.
What a killed process left under a temporary name is removed by the next one that writes to that folder; what a live
process writes is locked, and stays.

`Target` and `TargetFolder` are for outputs that a user names, with attributes and a question of overwriting;
`replacing` is for files of the program's own: caches, logs, checkpoints, results; `publish` is for those that
outlive the process under a temporary name, such as downloads that are resumed; `locked` is for work folders and
caches that one process at a time may change.

What it is not: it asks no questions (see `cli`), and reads nothing.
"""

from kolmo.targets.checks import check_folder, check_target, descriptor_of, is_special
from kolmo.targets.files import Attributes, Target, publish, replacing, umask
from kolmo.targets.folders import TargetFolder
from kolmo.targets.locks import LOCK, lock_open, locked
from kolmo.targets.renaming import TargetExistsError
from kolmo.targets.temporaries import is_temporary, remove_abandoned

__all__ = [
    "LOCK",
    "Attributes",
    "Target",
    "TargetExistsError",
    "TargetFolder",
    "check_folder",
    "check_target",
    "descriptor_of",
    "is_special",
    "is_temporary",
    "lock_open",
    "locked",
    "publish",
    "remove_abandoned",
    "replacing",
    "umask",
]
