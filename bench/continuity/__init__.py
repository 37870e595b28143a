"""Compare the service with common libraries under the same faults: what is lost, doubled or noticed late."""
