from hypothesis import settings

# The first call of a scipy function loads it; on a busy machine that is longer than any deadline worth setting.
settings.register_profile("stats", deadline=None)
settings.load_profile("stats")
