"""Why a photo scores low: what lowers its quality, in points."""
