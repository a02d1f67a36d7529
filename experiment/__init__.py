"""What makes a set of runs an experiment, and how it is read."""
