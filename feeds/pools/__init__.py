"""Plans which providers answer a question together, and in which order: one file for each subject."""
