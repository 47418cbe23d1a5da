"""One YAML file per experiment; :func:`densereid.train.config.train_config.load_config` reads them by name."""
