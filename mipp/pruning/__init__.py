"""The core that every door calls: measure once, answer many times. No disk, no configuration.

pruner       `Pruner`: a network and calibration data; ranks, plans and cuts
planner      the part of it that cuts nothing
calibration  the data, as a loader gives them or as a stage reads them
read_anew    large data of a data loader, of which a batch at a time is in memory
first_batch  what is refused of the data before any work, with the line that mends it
network      the same of the network
needs        bytes and seconds, told before a search begins; `needs_of_refit`, before a refit
heads        narrower heads of attentions: shares of the dense network, what cannot be asked then
estimates    what each layer pair's estimator answers, from one pass over the data
ranking      what a method says of the units, whatever the budget: information, or scores
plan         which units stay under a budget, why each of them, and what that spends
metric       what a network achieves on labelled inputs, answer by answer where that is an accuracy
drop         the smallest network whose metric falls by no more than so much, by bisection
drop_limit   how far an accuracy falls at the most, by the answers that changed
frontier     what several budgets cost
repair       what mends the layers after a cut: refit, recalibration, or nothing
report       what was removed and what was not; `plain_values`, in values that JSON knows
pruned       a cut network with its report
inspection   what of a network can be pruned, as a value that prints
inspect_network  `mipp.inspect`, which makes one
oneshot      `mipp.prune`, all of it in one call
"""
