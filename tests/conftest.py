"""Settings of every test: a slow machine is no failure, and CI draws the same examples twice."""

import os

from hypothesis import settings

settings.register_profile("bayestl", deadline=None, max_examples=50, derandomize="CI" in os.environ)
settings.load_profile("bayestl")
