"""What a release is judged by: benchmarks and their reports."""
