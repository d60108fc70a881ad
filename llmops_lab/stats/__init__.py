"""Statistics of scores: intervals, paired tests, power, many comparisons, confidence sequences, verdicts."""
