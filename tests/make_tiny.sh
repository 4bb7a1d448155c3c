#!/usr/bin/env bash
# How tests/models/tiny.safetensors and tests/models/context.safetensors were made: seeded
# runs of about a minute each on 150 photos, without perceptual networks. Only for the record:
# golden streams depend on the files.
#     bash tests/make_tiny.sh PHOTOS_TAR VALIDATION_TAR
set -euo pipefail
cd "$(dirname "$0")/.."
make() {
    local name=$1
    shift
    python -m training.train --photos "$photos" --limit-photos 150 --run "runs/$name" --seed 0 \
        --budget-steps 800 --muon-lr 0.004 --anneal-from 0.2 --threads 1 --device cpu \
        --weights '{"mse": 100}' --config "$1"
    python -m training.export "runs/$name/checkpoint" "tests/models/$name.safetensors" \
        --photos "$photos" --limit-photos 40 --validation "$validation"
}
photos=$1 validation=$2
make tiny '{"codes": 64, "dimensions": 4, "channels": [8, 12, 16], "analysis_blocks": [1, 1, 1],
    "synthesis_blocks": [1, 1, 1], "detail_channels": 4, "hyper_channels": 16,
    "latent_channels": 2}'
make context '{"codes": 64, "dimensions": 4, "channels": [8, 8, 12], "analysis_blocks": [1, 1, 1],
    "synthesis_blocks": [1, 1, 1], "detail_channels": 4, "hyper_channels": 16,
    "latent_channels": 2, "context_window": 3, "context_channels": 12}'
