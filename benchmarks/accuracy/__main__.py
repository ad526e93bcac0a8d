"""`python -m benchmarks.accuracy`: accuracy at equal budgets."""

from benchmarks.accuracy.equal_budgets import main

main()
