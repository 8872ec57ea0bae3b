#!/bin/sh
# Qwen2.5-VL and SAM 2.1 become a UniPixel: the three stages, each from the checkpoint of the one before.
#   sh examples/train/three_stages.sh sam2.1_hiera_base_plus.pt my_folder
# For several GPUs put `accelerate launch --config_file examples/train/ddp.yaml -m` in place of `python -m`.
set -eu
sam2=$1
data=$2
train() { python -m unipixel train --data "$data" --checkpointing --workers 4 "$@"; }

train --stage prompts --from Qwen/Qwen2.5-VL-3B-Instruct --sam2 "$sam2" --steps 5000 --output_dir runs/prompts
train --stage seg --from runs/prompts --steps 2000 --output_dir runs/seg
train --stage joint --from runs/seg --steps 20000 --output_dir runs/joint
