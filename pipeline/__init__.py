"""The command line: datasets, preprocessing, training, evaluation and inspection chained together."""
