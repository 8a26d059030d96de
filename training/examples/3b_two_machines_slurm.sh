#!/bin/bash
#SBATCH --job-name=fitv2-3b
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --signal=B:TERM@600
# FiTv2-3B on two machines of 8 GPUs, sharded over all 16, an accelerate launch on each. Ten minutes
# before the time is up the run stops and saves; with --resume latest the same command goes on.
set -e
MAIN_MACHINE=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MAIN_MACHINE TORCH_ELASTIC_SHUTDOWN_TIMEOUT=540
# The rank of a machine is known on that machine only.
srun bash -c 'exec accelerate launch \
    --config_file training/configs/accelerate/fsdp2.yaml \
    --num_machines 2 --num_processes 16 --machine_rank "$SLURM_NODEID" \
    --main_process_ip "$MAIN_MACHINE" --main_process_port "${PORT:-29500}" \
    -m training.train --config fitv2-3b "$@"' 3b "$@" &
steps=$!
trap 'kill -TERM $steps' TERM
wait $steps || wait $steps # a signal ends the first, before the steps have ended
