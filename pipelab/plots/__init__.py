"""Pictures of Timelines.

In: one or more Timelines. Out: a plotly Figure, an SVG, a page that plays by itself, or the message
from which the live lab's canvas draws. plotly is imported only when a Figure is asked for.
"""

from .figure import plot
from .page import page_text, write_page
from .svg import svg
from .view import live_view, view

__all__ = ["live_view", "page_text", "plot", "svg", "view", "write_page"]
