"""A rated set -> a network: recipe, batches, schedule, and the trainer."""
