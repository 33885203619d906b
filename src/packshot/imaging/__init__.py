"""Pictures as files and as sheets: decoding untrusted images, curation checks, contact sheets, plots, recipes in PNGs."""
