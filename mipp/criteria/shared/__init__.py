"""Parts that criteria share.

`criterion` is what each is given. Weights: `filters` (rows that make a unit), `unit_weights` (all
weights of a unit, to be measured and scaled), `weight_loss` (the loss by them, to second order),
`unit_gates` (a gate on each unit), `image_gates` (and image). Training that leaves no trace:
`calibrated_steps`, and `driving` (units to zero, in rounds). Data: `samples` (images and their
mean), `maps` (feature maps of a group), `pair_sums` and `contributions` (of the layers that read
it). Orders: `order` (scores of one), `elimination` (in rounds), `taking` (most relevant first).
"""
