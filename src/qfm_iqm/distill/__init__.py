"""What a teacher says of images and crops, and its features as targets."""
