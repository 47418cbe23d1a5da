"""The model card: what a network that leaves this project was trained on, takes, gives and scores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from densereid.train.config.train_config import to_dict
from densereid.train.deployment.image_network import ImageNetwork
from densereid.train.engine.checkpoint import Checkpoint
from densereid.train.engine.export import exported_scores
from densereid.train.families import inference_feature

_LICENCE = (
    "The code of DenseReID is under the MIT licence. The weights were learnt from the images of the named dataset, "
    "whose terms apply to them: of most re-identification datasets, academic research alone. Where `model.pretrained` "
    "is not `never`, they started from ImageNet weights of timm, which have terms of their own."
)

_TEXT = """---
library_name: pytorch
tags: [person-re-identification, image-feature-extraction]
---

# {name}

A network of the family `{family}` that embeds images of persons for re-identification, made by DenseReID. Images of
the same person have embeddings with a small distance (a large cosine).

- **Trained on** {trained_on}: {identities} identities, {epoch} epochs, seed {seed}.
- **Input** `image`: uint8 (batch, 3, {height}, {width}), RGB, any batch size. Other sizes are resized first (bilinear,
  antialiased). The network itself normalises: `(image - mean) / deviation`, in each channel, mean {mean} and deviation
  {deviation} of values 0..255.
- **Output** `embedding`: float32 (batch, {width_of}), of length 1: the feature `{feature}`.
- **Scores** {scores}

## Use

```python
import torch
from safetensors.torch import load_file  # only for the second way

network = torch.export.load("{stem}.pt2").module()       # graph and weights
network.load_state_dict(load_file("{stem}.safetensors"))  # the same graph with these weights; the names are the same
embeddings = network(images)                             # torch.uint8
```

```python
import onnxruntime

session = onnxruntime.InferenceSession("{stem}.onnx")
(embeddings,) = session.run(None, {{"image": images}})    # numpy.uint8
```

All that this page says is also in each file, as JSON: in safetensors' metadata under `model_card`, in ONNX's
`metadata_props` under `model_card`, in torch.export's extra file `model_card.json`.

## Licence

{licence}

## Settings

```yaml
{config}
```
"""


def model_card(network: ImageNetwork, checkpoint: Checkpoint) -> dict[str, Any]:
    """The facts about an exported network, as plain values that JSON has."""
    config = checkpoint.config
    with_scores = exported_scores(checkpoint)
    return {
        "name": config.name,
        "family": config.model.family,
        "feature": inference_feature(config),
        "embedding_width": network(network.example(1)).shape[1],
        "input": {
            "name": "image", "dtype": "uint8", "colours": "RGB", "height": config.height, "width": config.width,
            "shape": ["batch", 3, config.height, config.width], "normalised_by": "the network",
            "mean": [round(value, 3) for value in network.mean.flatten().tolist()],
            "deviation": [round(value, 3) for value in network.deviation.flatten().tolist()],
        },
        "trained_on": checkpoint.store["dataset"],
        "identities": checkpoint.num_identities,
        "epoch": checkpoint.epoch,
        "seed": checkpoint.seed,
        "scores": with_scores,
        "licence": _LICENCE,
        "config": to_dict(config),
    }  # fmt: skip


def card_json(card: Mapping[str, Any]) -> str:
    """The card as one JSON text; equal cards give equal texts."""
    return json.dumps(card, sort_keys=True)


def card_page(card: Mapping[str, Any], stem: str) -> str:
    """The card as a Markdown page beside the files ``stem``.onnx, ..."""
    facts, image = dict(card), card["input"]
    facts |= {name: image[name] for name in ("height", "width", "mean", "deviation")}
    facts["scores"] = _scores_in_words(card)
    facts["config"] = yaml.safe_dump(card["config"], sort_keys=False).rstrip()
    return _TEXT.format(**facts, width_of=card["embedding_width"], stem=stem)


def _scores_in_words(card: Mapping[str, Any]) -> str:
    scores = card["scores"]
    if not scores:
        return "were not measured for these weights and this feature."
    names = {"Rank-1": "rank_1", "Rank-5": "rank_5", "mAP": "mean_average_precision"}
    values = ", ".join(f"{name} {scores[key]:.1%}" for name, key in names.items())
    return f"on query and gallery of {card['trained_on']}, not re-ranked: {values}."
