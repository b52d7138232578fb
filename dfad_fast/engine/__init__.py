"""One iteration and its state: the mathematics of distillation. Opens no files and prints nothing."""
