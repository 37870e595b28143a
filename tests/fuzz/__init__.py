"""What strangers send us, mutated without end: targets that raise only if something is wrong, and what drives them."""
