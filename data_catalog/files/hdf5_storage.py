"""Whether what an HDF5 file holds lies in the file itself: the format can make a reader open any other file, too."""

from __future__ import annotations

import h5py

from densereid.data_catalog.errors import UserError

REPLACED = "nothing of it was read: get the file again from where you trust it"
"""What to do with a file that would have others read."""


def own_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """The file's dataset of that name. Raises UserError where its data lie in another file, and KeyError for none."""
    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise UserError(f"{file.filename}: {name} is a link to {_target(link)}, not data of the file", REPLACED)
    dataset = file[name]
    check_own(dataset)
    return dataset


def check_own(dataset: object) -> None:
    """Raise UserError unless this is a dataset whose data lie in its file."""
    if not isinstance(dataset, h5py.Dataset):
        raise UserError(f"{getattr(dataset, 'name', dataset)} is no dataset of an HDF5 file", REPLACED)
    others = [*(name for name, *_ in dataset.external or ()), *(source for source, _ in sources(dataset))]
    if others or dataset.is_virtual:
        named = ", ".join(sorted(set(others))[:3]) or "other datasets"
        raise UserError(f"{dataset.file.filename}: the data of {dataset.name} lie in {named}", REPLACED)


def sources(dataset: h5py.Dataset) -> list[tuple[str, str]]:
    """Files and datasets in them of which a virtual dataset is made; none of another."""
    if not dataset.is_virtual:
        return []
    return [(str(source.file_name), str(source.dset_name).lstrip("/")) for source in dataset.virtual_sources()]


def _target(link: h5py.SoftLink | h5py.ExternalLink) -> str:
    return f"{link.path} in {link.filename}" if isinstance(link, h5py.ExternalLink) else str(link.path)
