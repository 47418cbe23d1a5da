"""The settings of a training run: their meaning, their checks, the experiments that ship with the project."""
