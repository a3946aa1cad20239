"""Machines: moving pixels between storage and devices."""
