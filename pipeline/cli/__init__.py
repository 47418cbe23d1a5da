"""What is typed: the commands, their options and variables. Text becomes values here, once, and nowhere below."""

from densereid.pipeline.cli.group import cli, main

__all__ = ["cli", "main"]
