"""`framelift evaluate`: models on pictures whose truth is known, in the figures that papers report."""
