"""One factory as a Flower ClientApp."""
