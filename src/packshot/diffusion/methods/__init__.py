"""Which parameters learn, and how they are saved. Knows no family."""
