"""The questions with torch.compile, which takes minutes on a CPU: a rehearsal leaves them out and says so."""

from __future__ import annotations

from bench.gpu_questions.answers import Answer
from bench.gpu_questions.context import Context


def left_out(context: Context, answer: Answer) -> bool:
    """Whether nothing is compiled at this scale or on this device; a note says so."""
    if context.scale.compiles and context.is_gpu:
        return False
    where = f"--scale {context.scale_name}" if not context.scale.compiles else f"--device {context.device}"
    answer.note(f"Not measured: torch.compile is left out with {where}.")
    return True


def densepose(context: Context, answer: Answer) -> None:
    """The network compiled, at the batch that preprocessing gives it; then end to end."""
    if left_out(context, answer):
        return
    from bench.gpu_questions.questions.densepose import EndToEnd, Rates

    network = Rates(context, answer)
    answer.attempt("compiled, batch 64", network.compiled, "bf16", 64)
    best = network.best("bf16.compiled")
    if best is not None:
        end_to_end = EndToEnd(context, answer)
        answer.attempt("compiled, end to end", end_to_end.measure, "bf16", compiled=True, network=best)


def training(context: Context, answer: Answer) -> None:
    """The training steps compiled, MagnifierNet's first: it has the goal."""
    if left_out(context, answer):
        return
    from bench.gpu_questions.questions.training import Training

    trainings = Training(context, answer)
    for family in context.scale.families:
        answer.attempt(f"{family}, compiled", trainings.measure, family, "bf16-mixed", compiled=True)


def tests(context: Context, answer: Answer) -> None:
    """The tests marked gpu that compile a network."""
    if left_out(context, answer):
        return
    from bench.gpu_questions.questions.gpu_tests import COMPILED, run_tests

    run_tests(context, answer, "tests-compiled", COMPILED)
