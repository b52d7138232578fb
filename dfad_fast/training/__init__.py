"""DFADTrainer and what it is made of: steps, evaluation, the run's folder."""
