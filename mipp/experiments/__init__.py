"""Experiments: grids of points over the pipeline's stages, their results and what these show.

spec          a file of `experiments/`: parameters, a grid, and scales that change either
points        the cells of the grid; `methods` what one may compare
sweep         all points, some at once by `workers`; what fails is left for the next time
engine        one point: `shared` stages linked, its own run, one file left
point_stages  which stages those are; `controls` what stands in the place of some
results       the table of all points; `statistics` what it shows
report        its page, of `tables` and `panels`
"""
