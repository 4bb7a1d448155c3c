#!/usr/bin/env bash
# How tests/models/tiny.safetensors was made: a seeded run of about a minute on 150 photos,
# without perceptual networks. Only for the record: golden streams depend on the file.
#     bash tests/make_tiny.sh PHOTOS_TAR VALIDATION_TAR
set -euo pipefail
cd "$(dirname "$0")/.."
python -m training.train --photos "$1" --limit-photos 150 --run runs/tiny --seed 0 \
    --budget-steps 800 --muon-lr 0.004 --anneal-from 0.2 --threads 1 --device cpu \
    --weights '{"mse": 100}' --config '{"codes": 64, "dimensions": 4, "channels": [8, 12, 16],
        "analysis_blocks": [1, 1, 1], "synthesis_blocks": [1, 1, 1], "detail_channels": 4,
        "hyper_channels": 16, "latent_channels": 2}'
python -m training.export runs/tiny/checkpoint tests/models/tiny.safetensors \
    --photos "$1" --limit-photos 40 --validation "$2"
