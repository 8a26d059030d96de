#!/bin/bash
# FiTv2-B on the 8 GPUs of one machine, the whole model on each.
set -e
exec torchrun --standalone --nproc_per_node "${GPUS:-8}" -m training.train --config fitv2-b "$@"
