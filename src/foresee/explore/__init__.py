"""``foresee explore``: a small page on this machine on which a trained model can be tried, step by step."""

from foresee.explore.server import Server
from foresee.explore.session import Session

__all__ = ["Server", "Session"]
