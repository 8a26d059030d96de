#!/bin/bash
# FiTv2-XL on two machines of 8 GPUs. Run it on both, with the same name of the first one:
#   MAIN_MACHINE=node1 bash training/examples/two_machines.sh --data latents/256 --output runs/xl
set -e
exec torchrun --nnodes "${MACHINES:-2}" --nproc_per_node "${GPUS:-8}" --rdzv_backend c10d \
    --rdzv_endpoint "${MAIN_MACHINE:?set it to the name of the first machine}:${PORT:-29500}" \
    --rdzv_id "${RUN:-fitv2}" -m training.train \
    --config fitv2-xl --config training/examples/two_machines.yaml "$@"
