"""A run over several processes: process groups, collectives, and gradients through them and averaged by them."""
