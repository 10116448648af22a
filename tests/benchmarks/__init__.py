"""Measurements, run by `make bench`; they print tables and are no part of `make test`."""
