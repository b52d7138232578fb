"""What the command line runs: settings, networks by name, devices, distillation and teacher training."""
