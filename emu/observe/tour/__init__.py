"""The tour of a running cluster: each part of its network, tried over real sockets and checked."""

from emu.observe.tour.stops import STOPS
from emu.observe.tour.visit import TourError, Visit, take

__all__ = ["STOPS", "TourError", "Visit", "take"]
