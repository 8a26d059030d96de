#!/bin/bash
# FiTv2-B on one GPU, at the recipe's batch.
set -e
exec python -m training.train --config fitv2-b --config training/examples/one_gpu.yaml "$@"
