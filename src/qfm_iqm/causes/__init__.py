"""Why a photo scores low: what costs it, in points."""
