"""Every question to a GPU in one run of some minutes: ``bench/gpu.sh``. Only the questions themselves need torch."""
