"""A step's own process: ``python -m bench.gpu_questions.step NAME ENTRY CONTEXT``, the last as JSON."""

from __future__ import annotations

import importlib
import logging
import sys
import traceback

from bench.gpu_questions.answers import Answer
from bench.gpu_questions.context import Context


def main(name: str, entry: str, context_text: str) -> int:
    """Answer the question; the exit code says whether everything in it could be measured."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    context = Context.from_json(context_text)
    answer = Answer(context.steps, name)
    module, _, function = entry.partition(":")
    try:
        getattr(importlib.import_module(module), function)(context, answer)
    except Exception as error:
        traceback.print_exc()
        answer.failed(name, error)
    return 1 if answer.content["failures"] else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
