"""The experiments of "Language Modeling Is Compression"."""

from __future__ import annotations

from catalogue.entry import CODECS, IMAGENET, LJ, SPEECH, Entry

PAPER = "benchmarks/paper.md"
TRAIN = "kolmo train {data}/train/wiki_en.txt --positions rotary --window 512 --threads 1"
TOKENS = (
    "kolmo train {out}/data/wiki16.txt --model transformer-200k --positions rotary --budget 1024000B --lanes 4 "
    "--window 512 --dtype float32 --threads 1"
)
SYMBOLS = (1000, 2000, 5000, 10000, 20000)
EXPERIMENTS = (
    Entry(
        "paper",
        PAPER,
        ("The table", "Finding by finding", "Chinchilla 70B", "With the model counted", "Along the context"),
        (
            "python benchmarks/paper_corpus.py {out}/data",
            "kolmo bench paper --data {out}/data --spread --chunks 96 -o {out}/table",
            "kolmo bench paper --only audio --audio {out}/data/lj --spread --chunks 96 "
            "--compressors gzip,lzma2,png-torn,flac,neural:5 -o {out}/lj",
        ),
        minutes=15,
        data=("bench/text/enwik5", IMAGENET, LJ, SPEECH, "train/wiki_en.txt"),
        modules=(*CODECS, "matplotlib"),
        peers=("zstandard", "brotli"),
    ),
    Entry(
        "paper-vocabularies",
        PAPER,
        ("Vocabularies",),
        (
            "python benchmarks/paper_corpus.py {out}/data",
            "kolmo bench paper --only text --text {data}/bench/text/dickens --chunks 128 --compressors gzip "
            "-o {out}/bytes",
            f"{TOKENS} -o {{out}}/bytes-t",
            *(f"{TOKENS} --vocabulary bpe:{size} -o {{out}}/t{size}" for size in SYMBOLS),
            "kolmo bench paper --only text --text {out}/data/text --spread --chunks 8 --vocabularies '' "
            "--compressors gzip,hf:{out}/bytes-t/hf"
            + "".join(f",hf:{{out}}/t{size}/hf" for size in SYMBOLS)
            + " -o {out}/networks",
        ),
        minutes=60,
        data=("bench/text/dickens", "bench/text/enwik5", IMAGENET, LJ, SPEECH, "train/wiki_en.txt"),
        modules=("torch", "transformers", "tokenizers", "matplotlib"),
    ),
    Entry(
        "paper-transformers",
        PAPER,
        ("Transformers",),
        (
            "python benchmarks/paper_corpus.py {out}/data",
            f"{TRAIN} --model transformer-200k --lanes 16 --budget 12m --dtype float32 -o {{out}}/first200k",
            f"{TRAIN} --model transformer-200k --lanes 4 --budget 14m --dtype bfloat16 "
            "--init {out}/first200k -o {out}/t200k",
            f"{TRAIN} --model transformer-800k --lanes 16 --budget 14m --dtype float32 -o {{out}}/first800k",
            f"{TRAIN} --model transformer-800k --lanes 4 --budget 20m --dtype bfloat16 "
            "--init {out}/first800k -o {out}/t800k",
            f"{TRAIN} --model transformer-3.2m --lanes 4 --budget 24m --dtype bfloat16 -o {{out}}/t3.2m",
            "kolmo bench paper --data {out}/data --spread --chunks 8 --only text,images,audio --vocabularies '' "
            "--compressors gzip,lzma2,flac,png,cm:4,neural:5,hf:{out}/t200k/hf,hf:{out}/t800k/hf,hf:{out}/t3.2m/hf "
            "-o {out}/transformers",
        ),
        minutes=120,
        data=("bench/text/enwik5", IMAGENET, LJ, SPEECH, "train/wiki_en.txt"),
        modules=("torch", "transformers", *CODECS, "matplotlib"),
        note="budgets are times, so another machine trains on other amounts of text; the rows with memory: no command",
    ),
    Entry(
        "paper-samples",
        "paper.md",
        ("Continuations",),
        ("kolmo bench paper -o {out}/samples",),
        minutes=6,
        modules=(*CODECS, "matplotlib"),
    ),
)
