"""One iteration and its state: the mathematics of distillation. Opens no file and prints nothing."""
