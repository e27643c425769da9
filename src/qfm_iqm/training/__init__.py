"""Training on rated images: recipes, batches, schedule and trainer."""
