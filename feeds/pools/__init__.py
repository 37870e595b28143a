"""Which providers answer a question together, and in which order: one file a subject."""
