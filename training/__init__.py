"""The trainer: a folder of pictures to a checkpoint. Each verb is a command, ``python -m training.<verb>``."""
