"""Sites: what a factory has, from disk or drawn."""

from bayfed.data.loading import load_sites, site_names
from bayfed.data.site import Mask, Pixels, Site, SiteImage, Source

__all__ = ["Mask", "Pixels", "Site", "SiteImage", "Source", "load_sites", "site_names"]
