"""One function per use case, in verbs. Knows the ports and the domain, no framework."""
