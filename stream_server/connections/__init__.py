"""Accept connections and carry messages over them."""
