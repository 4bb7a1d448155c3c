"""Many images: files, folders, globs and URLs to `.hvq` files or back, here or on a cluster."""

from hvqcodec.batch.running import Summary, run
from hvqcodec.batch.work import Record, Settings

__all__ = ["Record", "Settings", "Summary", "run"]
