#!/bin/bash
# FiTv2-3B on the 8 GPUs of one machine: weights, gradients and optimizer are sharded.
set -e
exec accelerate launch --config_file training/configs/accelerate/fsdp2.yaml \
    -m training.train --config fitv2-3b --config training/examples/3b_eight_gpus.yaml "$@"
