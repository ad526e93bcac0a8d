"""The core that every door calls: measure once, answer many times. No disk, no configuration.

pruner       `Pruner`: a network and calibration data; ranks, plans and cuts
planner      the part of it that cuts nothing
calibration  the data, as a loader gives them or as a stage reads them
first_batch  what is refused of both before any work, with the line that mends it
estimates    what each layer pair's estimator answers, from one pass over the data
ranking      what a method says of the units, whatever the budget: information, or scores
plan         which units stay under a budget, why each of them, and what that spends
metric       what a network achieves on labelled inputs, answer by answer where that is an accuracy
drop         the smallest network whose metric falls by no more than so much, by bisection
drop_limit   how far an accuracy falls at the most, by the answers that changed
frontier     what several budgets cost
repair       what mends the layers after a cut: refit, recalibration, or nothing
pruned       a cut network with its report
inspection   what of a network can be pruned, as a value that prints
inspect_network  `mipp.inspect`, which makes one
oneshot      `mipp.prune`, all of it in one call
"""
