"""Helpers that several tests share."""

HANGS = 1500  # seconds after which a process hangs: never reached, however busy the machine
