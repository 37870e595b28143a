"""Other servers that deliver the same messages, each as its documentation shows. The project depends on none."""
