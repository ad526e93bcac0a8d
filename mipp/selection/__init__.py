"""Which units stay: the redundancy criterion over a whole network, top down, under a budget.

selection       the one value that everything ends in; `verdict`, why of each channel
by_information  selection by what units tell the next layers; `by_scores`, by a rival's `scores`
walk            one pass over the network, group by group, from the outputs to the inputs
visits          the channels of one group, in an order; `rules`, when one of them stays
cuts, prices    what a nat is worth: as a share of what passes, per what its unit costs
search          the threshold that meets a budget; `under_budget`, the walk there
spending        what is spent of a budget, and what it still has room for
limits          what stays whatever it adds; `rounding`, widths in multiples
controls        what widths alone are worth: random units, new weights
head_sizes      how narrow heads became before units were chosen, as a selection tells it
"""
