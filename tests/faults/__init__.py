"""Fault tests at their full counts: what must hold while processes die and input is hostile.

A fault test is one function in a module of this package, registered under its number:

    @fault(13, "flipped bits", passes="caught before load, every time")
    def flipped_bits(setting: Setting) -> list[Check]: ...

It may break what it likes in ``setting.workdir`` and in processes that it starts, takes everything random from
``setting.seed``, and returns a ``Check`` for each claim: of so many cases so many held. ``make faults`` runs all of them
at their full counts; ``PYTHONPATH=tests python -m faults NUMBER --quick`` runs one in a few seconds, as the suite does.
"""
