"""Other people's pruners, as this project runs them.

`torch_pruning` and `any_network` drive Torch-Pruning itself. `grail`, `corp`, `variance`, `osscar`,
`he2017` and `folding` are repairs written here, one method each: (dense network with its graph and
calibration images, selection) -> the network cut and repaired. `shared` is what several need.
"""
