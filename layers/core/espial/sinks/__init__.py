"""How a feed's finished files reach a CDP: each module here is one kind of `espial.feeds.files.Sink` (A23).

Whatever breaks off in the middle, nobody ever sees part of a file under its name. One suite holds that of all of them,
against real servers: `tests/contract/test_sinks.py`.
"""
