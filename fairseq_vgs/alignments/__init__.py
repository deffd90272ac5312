"""Phone alignments and the ABX item files made from them."""
