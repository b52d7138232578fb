"""A student that starts from its teacher's weights: what of them it can take, and how it takes that."""
