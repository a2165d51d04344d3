"""keras-cv's layers, made pure. keras-cv takes seconds to load: a function that needs a layer imports it."""
