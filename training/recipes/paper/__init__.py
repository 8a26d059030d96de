"""The models of the FiTv2 paper's Tables II to VI on ImageNet; README.md has all the commands."""
