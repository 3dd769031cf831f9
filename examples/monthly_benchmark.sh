#!/usr/bin/env bash
# A benchmark of this month's text: collect, evaluate, report. The whole circle, from a sample that this script makes.
#
#     examples/monthly_benchmark.sh FOLDER
#
# FOLDER gets the corpus (october), the results, report.html, and the corpus again from its recipe (again), which is compared.
# For the real thing, collect from the newest dump instead, and give models: see the last lines.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=${1:?usage: monthly_benchmark.sh FOLDER}
mkdir -p "$folder"
cd "$folder"

python "$here/monthly_sample.py" segment.warc.wet.gz

# 1. Collect: lines that pages share are dropped, pages that read best are kept. The same command goes on after an interruption.
kolmo collect cc segment.warc.wet.gz --since 2026-10-01 --until 2026-10-31 --seed 1 --scorer cm:1 --bucket head --bucket middle -o october

# 2. Evaluate three predictors on it: bits per character.
kolmo eval classical:xz classical:bz2 cm:3 --corpus october:cc -o results -q

# 3. Report: a page with the table, and the corpus's dates beside the cutoffs of models.
kolmo report results -o report.html --markdown report.md --title "October 2026" -f -q

# 4. Anybody else makes the same corpus from the manifest, which holds no text.
kolmo collect rebuild october/manifest-cc.json --file segment.warc.wet.gz -o again
cmp october/cc/test-00000.jsonl again/cc/test-00000.jsonl

# 5. And sees how much of it stands in another corpus.
kolmo collect overlap october:cc again:cc | tail -n 1

cat report.md

# For real:
#     kolmo collect all --since 2026-10-01 --contact you@example.org -o october
#     kolmo eval neural:5 hf:Qwen/Qwen2.5-0.5B hf:HuggingFaceTB/SmolLM2-360M --corpus october:cc --corpus october:python -o results
