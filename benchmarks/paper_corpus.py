"""Makes the data of docs/benchmarks/paper.md: text, pictures and sounds that no network of kolmo was trained on.

    KOLMO_DATA=DIR python benchmarks/paper_corpus.py FOLDER

`text`: the first 100,000 bytes of enwik9; `images`: 100 photographs of ImageNet; `audio`: of CMU ARCTIC every tenth
utterance, which the training of the network of samples held out; `lj`: eight sentences of LJSpeech; `wiki16.txt`: the
first 16,000,000 bytes of English Wikipedia, which small Transformers are trained on. What it is not: a measurement,
which `kolmo bench paper` is.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from harness.files import MB, text_folder
from harness.kinds_files import data_folder, recordings

TRAINING_BYTES = 16 * MB


def main(folder: Path) -> None:
    """Copy the files into the folder."""
    sources = {
        "text": [text_folder() / "enwik5"],
        "images": sorted((data_folder() / "bench/images/imagenet").iterdir()),
        "audio": recordings("arctic"),
        "lj": recordings("lj"),
    }
    for name, paths in sources.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for path in paths:
            shutil.copyfile(path, folder / name / path.name)
    with (data_folder() / "train/wiki_en.txt").open("rb") as text:
        (folder / "wiki16.txt").write_bytes(text.read(TRAINING_BYTES))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: KOLMO_DATA=DIR python benchmarks/paper_corpus.py FOLDER")
    main(Path(sys.argv[1]))
