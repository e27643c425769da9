"""Many images -> scores, safely: the files found, the engine, and the rows that come out."""
