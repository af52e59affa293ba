"""Trajectories: a log of the losses an optimizer was answered is all that its weights are made of."""

from shoestring.zeroth.trajectory.log import Trajectory
from shoestring.zeroth.trajectory.recorder import Recorder
from shoestring.zeroth.trajectory.replay import catch_up, replay

__all__ = ["Recorder", "Trajectory", "catch_up", "replay"]
