"""Which units stay: TERC over a whole network, top down, under a budget."""
