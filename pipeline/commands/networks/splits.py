"""Runs on several random splits of one dataset: each scored in both directions, their mean and deviation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.schema import Split
from densereid.pipeline.commands.networks.open_run import open_run
from densereid.pipeline.console import print_table
from densereid.pipeline.reports.network_tables import splits_table
from densereid.train.engine.checkpoint import LAST, store_fingerprint
from densereid.train.evaluation.directions import score_both_directions
from densereid.train.evaluation.metrics import Scores


def evaluate_splits(
    runs: Sequence[Path], *, device: str, feature: str | None = None, checkpoint_name: str = LAST
) -> dict[str, Scores]:
    """Print each run's scores on the store of its own training, in both directions, with mean and deviation; by run.

    Raises UserError where two runs are of the same split, and as
    :func:`densereid.pipeline.commands.networks.evaluation.evaluate_run`.
    """
    scores, of_split = dict[str, Scores](), dict[str, Path]()
    for run in runs:
        opened = open_run(run, store_path=None, device=device, feature=feature, checkpoint_name=checkpoint_name)
        digest = store_fingerprint(opened.store)["digest"]
        if digest in of_split:
            raise UserError(
                f"{of_split[digest]} and {run} are of the same split: {opened.store.path}",
                "Give runs on other splits, for example of DATASET=cuhk01-split1.",
            )
        of_split[digest] = run
        found = opened.embedded()
        scores[str(run)] = score_both_directions(*found[Split.QUERY], *found[Split.GALLERY])
    print_table(splits_table(scores))
    return scores
