"""Experiments: grids of points over the pipeline's stages, their results and what these show."""
