"""What the kept sweeps of experiments/results say to what was published."""
