"""Other ways to deliver the same messages, each as its own makers show it. None is a dependency of the project."""
