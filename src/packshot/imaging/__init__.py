"""Pictures as bytes in, bytes out: decoding, curation, sheets, plots, recipes. Knows no model and no database."""
