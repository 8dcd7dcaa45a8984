"""A shop shaped like the public Olist data set: simulate or import it, build its database, draw the pairs from it."""
