"""What every command needs once in a process, done before processes are forked: compiled code, tables, tensors."""

import torch

from densereid.data_catalog.datasets.specs import known_datasets
from densereid.preprocess.semantics.derive import derive
from densereid.train.config.train_config import load_config
from densereid.train.families import build_network

torch.set_num_threads(1)  # of several, none would cross a fork
known_datasets()
derive(
    torch.zeros((1, 2, 2, 3), dtype=torch.uint8), torch.zeros((1, 2, 2, 3), dtype=torch.uint8), size=8, collision="last"
)
build_network(load_config("dsa-reid-small"), 2, seed=0)
