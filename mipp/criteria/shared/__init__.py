"""Parts that criteria share.

`criterion` is what each is given. Weights: `filters` (rows that make a unit), `weight_loss`
(the loss by them, to second order), `unit_gates` (a gate on each unit), `calibrated_steps`
(training that leaves no trace). Data: `samples` (images and their mean), `maps` (feature maps of
a group), `pair_sums` and `contributions` (of the layers that read it). Orders: `order` (scores of
one), `elimination` (in rounds), `taking` (most relevant first). `choice` refuses what a `choose`
section cannot ask for together.
"""
