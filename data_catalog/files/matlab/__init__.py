"""MATLAB files, read in a process of their own where their reader may crash."""
