"""What the pipeline costs, beside what else does the same work: python -m benchmarks.bench_..."""
