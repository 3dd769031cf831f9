"""Benchmarks of small weights."""

from __future__ import annotations

from catalogue.entry import BY_HAND, SMOLLM2, WIKI, Entry

WEIGHTS = "benchmarks/weights.md"
CODERS = ("nncodec", "hqq", "bitsandbytes", "gguf", "llama_cpp")
CHECKPOINTS = (
    Entry(
        "weights-trellis",
        WEIGHTS,
        ("The trellis alone",),
        ("python benchmarks/weights_core.py --rows 4096 --columns 1024 --repeat 3 --markdown {out}/weights.md",),
        minutes=15,
    ),
    Entry(
        "weights-bitshift",
        WEIGHTS,
        ("The bitshift trellis alone",),
        (
            "python benchmarks/weights_core.py --bitshift --repeat 1 --markdown {out}/weights.md",
            "python benchmarks/weights_bitshift.py --network resnet-20 --bits 2 3 --images 1000",
            "python benchmarks/weights_bitshift.py --network resnet-56 --bits 2 3 --images 600",
        ),
        minutes=20,
        data=("models/resnet_cifar10", "bench/images/cifar10_jpeg_test.tar"),
        modules=("torch",),
    ),
    Entry(
        "weights-billion",
        WEIGHTS,
        ("A billion weights",),
        ("python benchmarks/weights_billion.py --markdown {out}/weights.md",),
        minutes=15,
        note="5 GB of disk in the folder of temporary files",
    ),
    Entry(
        "weights-peers",
        WEIGHTS,
        ("Beside the peers, on made matrices",),
        ("python benchmarks/weights_peers.py --markdown {out}/weights.md",),
        minutes=30,
        modules=("torch",),
        peers=CODERS,
    ),
    Entry(
        "weights-networks",
        WEIGHTS,
        ("In trained networks",),
        (
            "kolmo train {data}/train/wiki_en.txt=0.7 {data}/train/novels_en.txt=0.3 --model transformer-3.2m "
            "--vocabulary bpe:1024 --window 512 --lanes 8 --threads 1 --budget 27m -o {out}/lm",
            "python benchmarks/weights_networks.py --keep {out}/networks.json --language-model {out}/lm "
            "--figure {out}/weights-peers.png --markdown {out}/weights.md",
        ),
        minutes=180,
        data=(
            WIKI,
            "bench/images/cifar10_jpeg_test.tar",
            "models/resnet_cifar10",
            "train/wiki_en.txt",
            "train/novels_en.txt",
        ),
        modules=("torch", "transformers", "PIL", "matplotlib"),
        peers=CODERS,
    ),
    Entry(
        "weights-budget",
        WEIGHTS,
        ("Budgets in bits per character",),
        ("python benchmarks/weights_budget.py",),
        minutes=10,
        data=("bench/text/dickens",),
        modules=("torch", "transformers", "pyarrow"),
    ),
    Entry(
        "weights-lossless",
        WEIGHTS,
        ("Lossless",),
        ("python benchmarks/weights_lossless.py --markdown {out}/weights.md",),
        minutes=20,
        data=("models",),
        modules=("torch",),
        peers=("zipnn", "zstd", "xz"),
    ),
    Entry(
        "weights-streamed",
        WEIGHTS,
        ("Streamed",),
        ("python benchmarks/weights_streamed.py {out}/files",),
        minutes=20,
        modules=("torch", "transformers"),
    ),
    Entry(
        "weights-resident",
        WEIGHTS,
        ("Resident",),
        (
            "python benchmarks/weights_resident.py products",
            f"python benchmarks/weights_resident.py generate {{data}}/{SMOLLM2} {{out}}/files --tokens 8 "
            "--gguf {data}/models/smollm2.gguf",
        ),
        minutes=30,
        data=(SMOLLM2, "models/smollm2.gguf"),
        modules=("torch", "transformers", "llama_cpp"),
    ),
    Entry(
        "weights-examples",
        WEIGHTS,
        ("Networks, before and after",),
        (
            "kolmo train {data}/train/wiki_en.txt=0.7 {data}/train/novels_en.txt=0.3 --model transformer-3.2m "
            "--vocabulary bpe:1024 --window 512 --lanes 8 --threads 1 --budget 27m -o {out}/networks/lm",
            "python examples/shrink_table.py --folder {out}/networks --markdown {out}/weights.md "
            "--figure {out}/shrink.png",
        ),
        minutes=180,
        data=(WIKI, "bench/images", "models/resnet_cifar10", "train/wiki_en.txt", "train/novels_en.txt"),
        modules=("torch", "transformers", "PIL", "matplotlib"),
    ),
    Entry(
        "weights-steps",
        WEIGHTS,
        ("Steps",),
        (
            "python benchmarks/weights_steps.py --networks stories,darwin --more --markdown {out}/weights.md",
            "python benchmarks/weights_steps.py --networks resnet20,resnet56,shakespeare "
            "--markdown {out}/weights-others.md",
        ),
        minutes=120,
        data=("models/charrnn", "models/resnet_cifar10", "bench/images/cifar10_jpeg_test.tar"),
        modules=("torch", "transformers", "PIL"),
        note="the network for speech is a prototype that is not in the repository",
    ),
    Entry(
        "weights-gguf",
        WEIGHTS,
        ("GGUF without a loss",),
        (
            "python benchmarks/weights_gguf.py --megabytes 1 "
            "--weights {data}/models/all-MiniLM-L6-v2/model.safetensors --ggml {data}/models/libggml-base.so "
            "--gguf {data}/models/gemma.gguf --gguf {data}/models/smollm2.gguf "
            "--markdown {out}/weights.md",
            "kolmo shrink --lossless -f {data}/models/smollm2.gguf -o {out}/smollm2.kolmo",
        ),
        minutes=15,
        data=(
            "models/all-MiniLM-L6-v2/model.safetensors",
            "models/libggml-base.so",
            "models/gemma.gguf",
            "models/smollm2.gguf",
        ),
        modules=("gguf",),
        peers=("zstd", "xz"),
        note="libggml-base.so is that of llama-cpp-python",
    ),
    Entry(
        "weights-calibrated",
        WEIGHTS,
        ("Calibrated",),
        (
            "python benchmarks/weights_calibrated.py --keep {out}/stories.jsonl --markdown {out}/weights.md",
            f"python benchmarks/weights_calibrated.py {{data}}/{SMOLLM2} --calibrate {{data}}/train/wiki_en.txt "
            "--tokens 16384 --text {data}/bench/text/canterbury/alice29.txt --text {data}/bench/text/wiki.test.raw "
            "--characters 10000 --keep {out}/smol.jsonl --work {out}/smol --markdown {out}/weights.md",
        ),
        minutes=120,
        data=("bench/text/dickens", SMOLLM2, "train/wiki_en.txt", "bench/text/canterbury/alice29.txt", WIKI),
        modules=("torch", "transformers", "pyarrow"),
    ),
    Entry(
        "weights-blocks",
        WEIGHTS,
        ("Calibrated by blocks",),
        note=BY_HAND + "a prototype of what was tried; the rows by blocks are those of the entry weights-calibrated",
    ),
    Entry(
        "weights-figures",
        "theory.md",
        (),
        ("python benchmarks/weights_figures.py docs/benchmarks/weights.md {out}",),
        minutes=1,
        modules=("matplotlib",),
        note="figures, from the tables as they stand on the page",
    ),
)
