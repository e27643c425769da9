"""Integrations with other libraries; importing one imports its library."""
