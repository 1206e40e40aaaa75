"""Synthetic factories: procedural products, cameras and defects with exact masks."""

from bayfed.data.synthetic.damage import KINDS, PASTED_KINDS, SEVERITY
from bayfed.data.synthetic.export import write_sites
from bayfed.data.synthetic.factory import Product, SyntheticSource, products, sites

__all__ = [
    "KINDS",
    "PASTED_KINDS",
    "SEVERITY",
    "Product",
    "SyntheticSource",
    "products",
    "sites",
    "write_sites",
]
