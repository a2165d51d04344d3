"""The pipeline from a data set to a published model: artifacts, components, and the graph that joins them."""
