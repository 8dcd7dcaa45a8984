"""A shop shaped like the public Olist data set: simulated or imported, with its schema and its database."""
