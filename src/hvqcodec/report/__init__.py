"""A page that shows a photo beside what codecs make of it at equal bytes."""

from hvqcodec.report.comparing import Comparison, compare
from hvqcodec.report.page import to_html

__all__ = ["Comparison", "compare", "to_html"]
