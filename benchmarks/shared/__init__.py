"""What benchmarks have in common: options, images and networks, kept points, tables."""
