"""The same faults through us and through the libraries people use for this: what is lost, doubled, noticed late."""
