"""A run over several processes: who they are, what they tell each other, gradients through that and averaged."""
