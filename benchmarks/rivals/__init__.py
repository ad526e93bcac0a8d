"""Other people's pruners, as this project runs them."""
