"""Feature selection for tables, the criterion's first use, in the form of scikit-learn."""

from mipp.features.selector import TERCSelector

__all__ = ["TERCSelector"]
