"""Benchmarks: ratios against named baselines, never asserted in a test."""
