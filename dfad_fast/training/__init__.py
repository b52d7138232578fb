"""``DFADTrainer`` and the loop of a run."""
