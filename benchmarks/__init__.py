"""One module per published figure; ``python -m benchmarks NUMBER [--quick]`` measures it."""
