"""Benchmarks of files: lossless compression, kinds of data, networks of one's own, damage."""

from __future__ import annotations

from catalogue.entry import BY_HAND, CODECS, IMAGENET, LJ, SPEECH, TEXTS, Entry

LOSSLESS = "benchmarks/lossless.md"
PEERS = ("gzip", "xz", "zstd", "brotli", "bzip3", "7zz", "zpaq")
TOOLS = "kolmo,gzip-9,xz-9e,zstd-19,brotli-11,bzip3-16,ppmd-16,zpaq-5"
FILES = (
    Entry(
        "lossless",
        LOSSLESS,
        ("Sizes", "The first 4,000 and 20,000 bytes", "Speed"),
        (
            "python benchmarks/lossless.py --files eng,py,alice29,alice29-4k,alice29-20k,asyoulik-4k,asyoulik-20k,"
            "lcet10-4k,lcet10-20k,plrabn12-4k,plrabn12-20k,py-4k,py-20k --levels 1,4,5,9 --repeat 1 "
            f"--tools {TOOLS} --markdown {{out}}/lossless.md --json {{out}}/lossless.json",
        ),
        minutes=15,
        data=(TEXTS,),
        peers=PEERS,
        note="the file py is of the library of the running Python",
    ),
    Entry(
        "lossless-others",
        LOSSLESS,
        ("Other files",),
        (
            "python benchmarks/lossless.py --files enwik5,dickens-2m,world192,xml,twitter.json,citm_catalog.json,"
            f"kennedy.xls,geo,obj2,pic,sum,random --levels 4,5 --repeat 1 --tools {TOOLS} "
            "--markdown {out}/lossless.md --json {out}/lossless.json",
        ),
        minutes=20,
        data=(TEXTS,),
        peers=PEERS,
    ),
    Entry(
        "lossless-fresh",
        LOSSLESS,
        ("Fresh texts",),
        (
            "python benchmarks/fresh_texts.py {data}/clones {data}/bench/text/fresh",
            "python benchmarks/lossless.py --files fresh --levels 4,5 --repeat 1 "
            "--tools kolmo,xz-9e,zstd-19,brotli-11,ppmd-16,zpaq-5,paq8px-8 "
            "--markdown {out}/lossless.md --json {out}/lossless.json",
        ),
        minutes=30,
        data=(TEXTS, "clones"),
        peers=("xz", "zstd", "brotli", "7zz", "zpaq", "paq8px"),
        note="clones/ has the clones that fresh_texts.py names",
    ),
    Entry(
        "lossless-gate",
        LOSSLESS,
        ("The network's gate",),
        ("python benchmarks/gate.py --repeat 3 --markdown {out}/gate.md",),
        minutes=20,
        data=("bench/text", "bench/images", "bench/audio"),
        modules=("soundfile",),
    ),
    Entry(
        "lossless-rates",
        LOSSLESS,
        ("Rates and contexts of lines",),
        note=BY_HAND + "variants of the mixer that were tried and are not in the repository",
    ),
    Entry(
        "lossless-lanes",
        LOSSLESS,
        ("Lanes",),
        note=BY_HAND + "a measurement of the design, before lanes were chosen",
    ),
    Entry(
        "lossless-decoding",
        LOSSLESS,
        ("Decoding beside encoding, and AMX",),
        note=BY_HAND + "the version before is compared in turns, in one process",
    ),
    Entry(
        "lossless-scaling",
        LOSSLESS,
        ("Two cores against one",),
        ("python benchmarks/lossless.py --files none --scaling --repeat 1 --markdown {out}/scaling.md",),
        minutes=5,
        data=(TEXTS,),
        note="needs two cores that nothing else uses",
    ),
    Entry(
        "lossless-growth",
        LOSSLESS,
        ("As the input grows",),
        (
            "python benchmarks/lossless.py --files none --growth 1,4,5 --growth-bytes 10000000 "
            "--markdown {out}/growth.md",
            "python benchmarks/lossless.py --files none --growth 1 --growth-bytes 100000000 --markdown {out}/more.md",
        ),
        minutes=25,
        data=(TEXTS,),
    ),
    Entry(
        "lossless-stream",
        LOSSLESS,
        ("A stream",),
        ("python benchmarks/lossless.py --files none --stream 5 --stream-bytes 40000000 --markdown {out}/stream.md",),
        minutes=10,
        data=(TEXTS,),
    ),
    Entry(
        "kinds",
        "benchmarks/kinds.md",
        ("Pictures, sound, programs, records, measured",),
        (
            "python benchmarks/kinds.py --folder {out}/files --tools kolmo,zpaq,special --levels 5 "
            "--json {out}/kinds.json --markdown {out}/kinds.md",
        ),
        minutes=20,
        data=("bench", "train/speech"),
        modules=CODECS,
        peers=("zpaq",),
        note="the page's column 'before' is of version 1, at commit 4a0c47d",
    ),
    Entry(
        "kinds-extra",
        "benchmarks/kinds.md",
        ("Pictures, sound, programs, records, measured",),
        (
            "python benchmarks/kinds.py --folder {out}/files --more {data}/extra --tools kolmo,zpaq,special --levels 5 "
            "--json {out}/kinds.json --markdown {out}/kinds.md",
        ),
        minutes=30,
        data=("bench", "train/speech", "extra"),
        modules=CODECS,
        peers=("zpaq",),
        note="the files of the entry kinds too; extra/ has those of other sources that the page names, group-NAME",
    ),
    Entry(
        "kinds-chunks",
        "benchmarks/kinds.md",
        ("Chunks of 2,048 bytes",),
        (
            "python benchmarks/kinds.py --chunks lj,patches,arctic --files none --tools kolmo,special --levels 5 "
            "--json {out}/chunks.json --markdown {out}/chunks.md",
        ),
        minutes=5,
        data=(IMAGENET, LJ, SPEECH),
        modules=CODECS,
    ),
    Entry(
        "kinds-targets",
        "benchmarks/kinds.md",
        ("Targets",),
        note=BY_HAND + "read off the tables of kinds and kinds-chunks; those of paq8px are of single runs",
    ),
    Entry(
        "deflate",
        "kinds-deflate.md",
        ("What it gains",),
        (
            "python benchmarks/deflate.py --gain 4 {data}/deflate",
            "python benchmarks/deflate.py --gain 5 {data}/deflate",
        ),
        minutes=5,
        data=("deflate",),
        note="deflate/ has the files that the page names",
    ),
    Entry(
        "deflate-study",
        "kinds-deflate.md",
        ("A study",),
        ("python benchmarks/deflate.py {data}/deflate",),
        minutes=30,
        data=("deflate",),
        note="the page's study is of about 350 files; a folder for each kind gives a row each",
    ),
    Entry(
        "own-networks",
        "benchmarks/own_networks.md",
        ("Networks of one's own",),
        (
            "python benchmarks/own_networks.py log={data}/own/old.log:{data}/own/new.log "
            "json={data}/own/old.json:{data}/own/new.json source={data}/own/source --budget 8MB --work {out}/networks",
        ),
        minutes=40,
        data=("own/old.log", "own/new.log", "own/old.json", "own/new.json", "own/source"),
        modules=("torch", "zstandard"),
    ),
    Entry(
        "faults",
        "benchmarks/robustness.md",
        ("A million faults",),
        ("python scripts/faults.py --count 1000000 --only 'v1-[!n]*'",),
        minutes=60,
    ),
    Entry(
        "faults-network",
        "benchmarks/robustness.md",
        ("Faults at the levels of the network",),
        (
            "python scripts/faults.py --count 20000 --only v1-neural-*",
            "KOLMO_KERNEL=reference python scripts/faults.py --count 240 --only v1-prose-*",
            "KOLMO_KERNEL=reference python scripts/faults.py --count 60 --only v1-neural-prose-5",
        ),
        minutes=60,
    ),
    Entry(
        "hostile",
        "benchmarks/robustness.md",
        ("Hostile input",),
        note=BY_HAND + "trials by hand; each kind that was found has tests",
    ),
    Entry(
        "kills",
        "benchmarks/robustness.md",
        ("Killed commands",),
        ("python scripts/hostile/kills.py --state {out}/kills.jsonl --count 125",),
        minutes=180,
        modules=("torch",),
    ),
    Entry(
        "races",
        "benchmarks/robustness.md",
        ("Two runs at once",),
        ("python scripts/hostile/races.py --state {out}/races.jsonl --count 60",),
        minutes=120,
        modules=("torch",),
    ),
    Entry(
        "fuzz",
        "benchmarks/robustness.md",
        ("Fuzz targets",),
        tuple(
            f"{kernel}python fuzz/{name}.py {{out}}/{name} -max_total_time=3600"
            for name in ("decoder", "weights", "readers", "gguf_files")
            for kernel in ("", "KOLMO_KERNEL=reference ")
        ),
        minutes=480,
    ),
    Entry(
        "soak",
        "benchmarks/robustness.md",
        ("A long stream",),
        ("python scripts/hostile/soak.py --log {out}/soak.jsonl",),
        minutes=600,
    ),
    Entry(
        "portability",
        "benchmarks/robustness.md",
        ("Other machines",),
        ("python scripts/portability/portability.py",),
        minutes=30,
        peers=("clang", "qemu-aarch64", "qemu-riscv64", "qemu-s390x"),
        note="a machine without its cross compiler is named and left out",
    ),
)
