"""Test accuracy of pruned networks, at equal budgets and before and after training."""
