"""The guide says what the program does: its commands run, and print what the page shows."""

from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def test_the_commands_of_the_curation_guide_print_what_the_page_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS)
    from transcripts import same, transcribed

    page = (DOCS / "guide" / "curation.md").read_text(encoding="utf-8")
    now = transcribed(page)
    assert same(now, page), now
    report = now.partition("references check")[2]
    for shown in (
        "05-foreign.jpg         accepted",
        "refused: near-duplicate",
        "refused: blurred",
        "refused: underexposed",
        "refused: too-small",
        "6 accepted; ready to freeze",
        "5 accepted; ready to freeze",
        "produce/apple/gala set 1: 5 photos",
    ):
        assert shown in report
