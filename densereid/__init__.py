"""DenseReID: body semantics for person re-identification.

The four packages are links to the folders of the same names at the repository's root.
"""

__version__ = "0.1.0"
