#!/bin/bash
#SBATCH --job-name=fitv2-xl
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --signal=B:TERM@300
# FiTv2-XL on two machines of 8 GPUs, a torchrun on each. Five minutes before the time is up the run
# stops and saves; with --resume latest the same command goes on.
set -e
MAIN_MACHINE=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MAIN_MACHINE RUN=$SLURM_JOB_ID TORCH_ELASTIC_SHUTDOWN_TIMEOUT=240
srun bash training/examples/two_machines.sh "$@" &
steps=$!
trap 'kill -TERM $steps' TERM
wait $steps || wait $steps # a signal ends the first, before the steps have ended
