"""Local and remote paths, files that are whole or absent, MATLAB files."""
