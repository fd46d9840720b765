"""Reading: the rows of the sources in the order of a plan, and the positions between them."""
