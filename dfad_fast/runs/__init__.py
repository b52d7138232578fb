"""The folder of a run: where its files lie, writing them whole, and reading them again."""
