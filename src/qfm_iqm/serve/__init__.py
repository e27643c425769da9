"""HTTP service for scores with a web page: safe by default, stores nothing."""
