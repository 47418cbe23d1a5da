"""DenseReID: body semantics for person re-identification.

What programs of your own need is gathered here, by the names of ``__all__``; each is imported when it is asked for, so
that ``import densereid`` takes no time. The four packages are links to the folders of the same names at the
repository's root.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from densereid.data_catalog.errors import UserError
    from densereid.data_catalog.parts import BODY_PARTS, MASK_LABELS
    from densereid.data_catalog.store.store import Store, open_store
    from densereid.dataset import open_dataset
    from densereid.embedding import EmbeddingModel, load_model
    from densereid.semantics import Semantics, estimate_semantics
    from densereid.train.data.dataset import StoreDataset

__version__ = "0.1.0"

__all__ = [
    "BODY_PARTS",
    "MASK_LABELS",
    "EmbeddingModel",
    "Semantics",
    "Store",
    "StoreDataset",
    "UserError",
    "__version__",
    "estimate_semantics",
    "load_model",
    "open_dataset",
    "open_store",
]

_MODULES = {
    "densereid.data_catalog.errors": ("UserError",),
    "densereid.data_catalog.parts": ("BODY_PARTS", "MASK_LABELS"),
    "densereid.data_catalog.store.store": ("Store", "open_store"),
    "densereid.dataset": ("open_dataset",),
    "densereid.embedding": ("EmbeddingModel", "load_model"),
    "densereid.semantics": ("Semantics", "estimate_semantics"),
    "densereid.train.data.dataset": ("StoreDataset",),
}
"""Where each name is defined: what type checkers read above, for Python (PEP 562)."""


def __getattr__(name: str) -> object:
    """The public name, its module imported."""
    module = next((module for module, names in _MODULES.items() if name in names), None)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(module), name)
    return value


def __dir__() -> list[str]:
    """The public names, whether they were asked for or not."""
    return sorted({*globals(), *__all__})
