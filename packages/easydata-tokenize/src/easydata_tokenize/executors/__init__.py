"""Who does the units of work: this process, several, or a Ray cluster."""
