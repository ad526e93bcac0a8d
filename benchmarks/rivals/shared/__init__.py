"""What rivals that repair have in common: the layers that they write to, and what these read."""
