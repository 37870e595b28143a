"""One program for each contestant: watches closed 1m candles and prices of a few symbols as its documentation shows."""
