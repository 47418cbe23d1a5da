"""All that is found about one ranking, once: its scores in every part, its distances, its embeddings in a plane."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from densereid.data_catalog.store.schema import Split
from densereid.train.evaluation.breakdown import by_camera_pair, by_visible_parts
from densereid.train.evaluation.comparison import Estimate, estimates
from densereid.train.evaluation.metrics import Labels, check_embeddings, check_protocol
from densereid.train.evaluation.query_scores import QueryScores, score_queries
from densereid.train.evaluation.views.distances import DistanceHistogram, distance_histogram
from densereid.train.evaluation.views.projection import Projection, project


@dataclass(frozen=True)
class Findings:
    """Of one network on one store."""

    scores: QueryScores
    estimates: Mapping[str, Estimate]
    camera_pairs: Mapping[tuple[int, int], Mapping[str, float]]
    visible_parts: Mapping[int, Mapping[str, float]]
    """By how many of the seven body parts a query shows."""
    shown_parts: tuple[tuple[Mapping[str, float], Mapping[str, float]], ...]
    """Of each body part: means of the queries that show it, and of those that do not."""
    distances: DistanceHistogram
    projection: Projection


def find_all(embedded: Mapping[Split, tuple[Tensor, Labels]], seen: Tensor) -> Findings:
    """Everything about embeddings (N, D) and labels of query and gallery; ``seen`` as
    :func:`densereid.train.evaluation.breakdown.seen_parts` has it for the queries.

    Raises ScoringError where nothing can be scored, or an embedding is not finite.
    """
    (query, labels), (gallery, others) = embedded[Split.QUERY], embedded[Split.GALLERY]
    check_protocol(labels, others)
    check_embeddings(query, "query embeddings")
    check_embeddings(gallery, "gallery embeddings")
    ranked = (query, labels, gallery, others)
    scores = score_queries(*ranked)
    return Findings(
        scores=scores,
        estimates=estimates(scores),
        camera_pairs=by_camera_pair(*ranked),
        visible_parts=by_visible_parts(scores, seen.sum(1)),
        shown_parts=tuple((scores.means(part), scores.means(~part)) for part in seen.T),
        distances=distance_histogram(*ranked),
        projection=project(torch.cat((query, gallery)), torch.cat((labels.person_id, others.person_id))),
    )
