"""Fuzz tests of everything that parses input from outside: the targets, the mutations and the command."""
