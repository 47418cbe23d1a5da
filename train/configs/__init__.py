"""One YAML file per experiment; :func:`train.config.load_config` reads them by name."""
