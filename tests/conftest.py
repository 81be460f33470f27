"""Settings of every test: a slow machine is no failure."""

from hypothesis import settings

settings.register_profile("bayestl", deadline=None, max_examples=50)
settings.load_profile("bayestl")
